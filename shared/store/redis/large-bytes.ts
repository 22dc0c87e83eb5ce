/**
 * Payloads and outputs above a threshold lie in a bucket, and a reference stands in Redis where the bytes would
 * (docs/decisions/0011). An object is always named by one of three, and scripts alone move a name from one to the next:
 *
 *   (none) ─ begin ─► uploads ─ admit, settle ─► a record ─ finish, sweep ─► unnamed ─ deleted ─► (none)
 *                        └── given up: refused, lost in a crash ──────────────┘
 *
 * The name is in `uploads` before the first byte leaves, and a verb takes it from there or is refused, so that no crash
 * leaves an object that nothing names, and no sweep deletes one that something does.
 */
import { randomUUID } from 'node:crypto';
import { SluiceError } from '../../errors/sluice-error.ts';
import { Bucket, DELETES_MAX } from '../bucket/bucket.ts';
import type { BucketOptions } from '../ports/server.ts';
import type { Layout } from './layout.ts';
import type { Argument, Link } from './link.ts';

/** Uploads begun longer ago are given up: far above what one may take, and short against any retention. */
const GIVEN_UP_MS = 3_600_000;
/** Scripts that know no call need no retention; it must be a number. */
const NO_RETENTION = 0;
const REFERENCE = /^(\d+) (.+)$/;

export type LargeBytesPlace = {
  readonly link: Link;
  readonly layout: Layout;
  readonly generation: string;
  /** For /metrics: what was written, read and deleted. */
  readonly counters?: Record<string, number>;
};

/** Objects by the hour, so that a person who looks into the bucket sees how old they are: `2026-11-21T13`. */
const hourOf = (now: number): string => new Date(now).toISOString().slice(0, 13);

/** `BYTES KEY`: how many bytes an object has stands beside its name, for pages of results and for checks. */
export const parseReference = (reference: string): { readonly byteLength: number; readonly key: string } => {
  const match = REFERENCE.exec(reference);
  if (match === null) throw new SluiceError('internal', `"${reference}" is no reference to an object.`);
  return { byteLength: Number(match[1]), key: match[2]! };
};

/** A verb came to refer to an upload that had been given up. */
export const tooLong = (): SluiceError =>
  new SluiceError('store_unavailable', 'The upload to the bucket took more than an hour, and was given up.', {
    retry_after_seconds: 2,
  });

export class LargeBytes {
  readonly #place: LargeBytesPlace;
  readonly #bucket: Bucket | null;
  readonly #prefix: string;
  readonly #thresholdBytes: number;

  constructor(place: LargeBytesPlace, options: BucketOptions | null) {
    this.#place = place;
    this.#bucket = options === null ? null : new Bucket(options);
    this.#prefix = options?.prefix ?? '';
    this.#thresholdBytes = options?.thresholdBytes ?? Number.POSITIVE_INFINITY;
  }

  isLarge({ byteLength }: Uint8Array): boolean {
    return byteLength >= this.#thresholdBytes;
  }

  /**
   * Puts bytes into the bucket and gives the reference that a script may take over, within an hour.
   *
   * @throws SluiceError `store_unavailable`
   */
  async put(fn: number, now: number, bytes: Uint8Array): Promise<string> {
    const key = `${this.#prefix}${this.#place.generation}/${fn}/${hourOf(now)}/${randomUUID()}`;
    const reference = `${bytes.byteLength} ${key}`;
    await this.#run('upload', fn, now, [reference]);
    try {
      await this.#bucketOf(reference).put(key, bytes);
    } catch (error) {
      this.giveUp(fn, now, reference);
      throw error;
    }
    this.#count('bucket_writes');
    this.#count('bucket_written_bytes', bytes.byteLength);
    return reference;
  }

  /**
   * Puts bytes into the bucket, then does what comes to name them. What came to name nothing, or not for certain, is given up.
   */
  async naming<T>(
    fn: number,
    now: number,
    bytes: Uint8Array,
    verb: (reference: string) => Promise<T>,
  ): Promise<T> {
    const reference = await this.put(fn, now, bytes);
    try {
      return await verb(reference);
    } finally {
      this.giveUp(fn, now, reference);
    }
  }

  /** null: the object is not there. @throws SluiceError `store_unavailable` */
  read(reference: string): Promise<Buffer | null> {
    const { byteLength, key } = parseReference(reference);
    this.#count('bucket_reads');
    return this.#bucketOf(reference).get(key, byteLength);
  }

  /** An upload that was taken over is out of its reach. Nobody waits: what is lost here is given up by its age. */
  giveUp(fn: number, now: number, reference: string): void {
    this.#run('give-up', fn, now, [reference]).catch(() => undefined);
  }

  /** Deletes what nothing names any more, at most one request's worth. True when more is due. */
  async sweep(fn: number, now: number): Promise<boolean> {
    if (this.#bucket === null) return false;
    const gone = await this.#run<Buffer[]>('unnamed', fn, now, [now - GIVEN_UP_MS, DELETES_MAX]);
    if (gone.length === 0) return false;
    const references = gone.map(String);
    await this.#bucket.remove(references.map((reference) => parseReference(reference).key));
    this.#count('bucket_deletes', references.length);
    await this.#place.link.command('SREM', this.#place.layout.key(fn, 'unnamed'), ...references);
    return gone.length === DELETES_MAX;
  }

  async close(): Promise<void> {
    await this.#bucket?.close();
  }

  #count(name: string, by = 1): void {
    const { counters } = this.#place;
    if (counters !== undefined) counters[name] = (counters[name] ?? 0) + by;
  }

  #bucketOf(reference: string): Bucket {
    if (this.#bucket !== null) return this.#bucket;
    throw new SluiceError(
      'store_unavailable',
      `${parseReference(reference).key} lies in a bucket that this process does not know; give it the --s3-bucket of the others.`,
      { field: 's3Bucket', retry_after_seconds: 2 },
    );
  }

  #run<T>(script: string, fn: number, now: number, args: readonly Argument[]): Promise<T> {
    const { link, layout, generation } = this.#place;
    return link.run<T>(script, [layout.key(fn, 'generation')], [generation, now, NO_RETENTION, ...args]);
  }
}

/**
 * References name objects and not their bucket, so every process of a store needs the one that the first one used.
 *
 * @throws SluiceError `invalid_request` (another one, or none), `store_unavailable` (it refuses)
 */
export const checkBucket = async (
  link: Link,
  layout: Layout,
  options: BucketOptions | null,
): Promise<void> => {
  const key = layout.store('bucket');
  const known = await link.command<Buffer | null>('GET', key);
  if (options === null && known === null) return;
  if (known !== null && String(known) !== options?.name)
    throw new SluiceError(
      'invalid_request',
      `This store keeps large payloads and results in the bucket "${known}"; give --s3-bucket ${known} (a higher --s3-threshold leaves new ones in Redis).`,
      { field: 's3Bucket' },
    );
  const bucket = new Bucket(options!);
  try {
    await bucket.check();
  } finally {
    await bucket.close();
  }
  await link.command('SET', key, options!.name, 'NX');
};
