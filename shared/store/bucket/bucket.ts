/**
 * An S3-compatible bucket: whole objects in, whole objects out (in parts: bucket-objects.ts). Everything that it refuses is `store_unavailable`, which
 * callers may try again; nothing waits longer than its time limit. Credentials come from where the AWS SDKs look for them
 * (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, or the role of the machine or pod), never from here.
 */
import { randomUUID } from 'node:crypto';
import type { S3Client } from '@aws-sdk/client-s3';
import PQueue from 'p-queue';
import { SluiceError } from '../../errors/sluice-error.ts';
import type { BucketOptions } from '../ports/server.ts';

/** Connections: one moves some ten MB/s to S3, so these are more than one process needs and less than a server minds. */
const CONNECTIONS_MAX = 16;
/** Objects that wait for a connection; their bytes are in memory already, those of reads are not yet. As many as requests. */
const WAITING_MAX = 10_000;
const CONNECT_MS = 3000;
/** One operation with its repeats: what a small object may take, and the slowest rate that is waited for. */
const OPERATION_MS = 15_000;
const BYTES_PER_MS_MIN = 4096;
/** Tries of the SDK, 0.1 s and more between them: long enough for a server that sheds load. */
const TRIES_MAX = 4;
/** S3 deletes this many objects in one request. */
export const DELETES_MAX = 1000;

type Library = typeof import('@aws-sdk/client-s3');
export type Opened = { readonly client: S3Client; readonly library: Library };

const open = async ({ region, endpoint }: BucketOptions): Promise<Opened> => {
  // 35 MB of memory, which only those pay who use a bucket.
  const library = await import('@aws-sdk/client-s3');
  const client = new library.S3Client({
    region,
    // Other servers than that of AWS seldom have a name for each bucket.
    ...(endpoint === '' ? {} : { endpoint, forcePathStyle: true }),
    maxAttempts: TRIES_MAX,
    requestHandler: {
      connectionTimeout: CONNECT_MS,
      socketTimeout: OPERATION_MS,
      httpAgent: { maxSockets: CONNECTIONS_MAX, keepAlive: true },
      httpsAgent: { maxSockets: CONNECTIONS_MAX, keepAlive: true },
    },
  });
  return { client, library };
};

const limitMs = (bytes: number): number => OPERATION_MS + Math.ceil(bytes / BYTES_PER_MS_MIN);

export const isMissing = (error: unknown): boolean =>
  error instanceof Error && ['NoSuchKey', 'NotFound', 'NoSuchUpload'].includes(error.name);

const WHY_LENGTH_MAX = 300;

const whyOf = (error: unknown): string => {
  if (!(error instanceof Error)) return String(error);
  const { code } = error as { code?: unknown };
  if (error.name === 'AbortError' || error.name === 'TimeoutError') return 'no answer in time';
  if (error.name === 'CredentialsProviderError')
    return 'this process has no credentials for it; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY';
  const words = [error.name === 'Error' || error.name === 'AggregateError' ? '' : error.name, error.message];
  if (error.message === '' && typeof code === 'string') words.push(code);
  return words
    .filter((word) => word !== '')
    .join(': ')
    .slice(0, WHY_LENGTH_MAX);
};

export class Bucket {
  readonly name: string;
  readonly #options: BucketOptions;
  readonly #queue = new PQueue({ concurrency: CONNECTIONS_MAX });
  #opened: Promise<Opened> | undefined;
  readonly #closed = new AbortController();

  constructor(options: BucketOptions) {
    this.#options = options;
    this.name = options.name;
  }

  /** Resolves when the object is durable, as the bucket has it. @throws SluiceError `store_unavailable` */
  put(key: string, bytes: Uint8Array): Promise<void> {
    return this.run(
      `take ${bytes.byteLength} bytes`,
      bytes.byteLength,
      async ({ client, library }, signal) => {
        const command = new library.PutObjectCommand({ Bucket: this.name, Key: key, Body: bytes });
        await client.send(command, { abortSignal: signal });
      },
    );
  }

  /**
   * @param byteLength of the object, which was kept when it was written: no other length is taken
   * @returns null where there is no such object
   * @throws SluiceError `store_unavailable`
   */
  get(key: string, byteLength: number): Promise<Buffer | null> {
    return this.run(`give ${key}`, byteLength, async ({ client, library }, signal) => {
      try {
        const command = new library.GetObjectCommand({ Bucket: this.name, Key: key });
        const { Body } = await client.send(command, { abortSignal: signal });
        return await gather(Body as AsyncIterable<Uint8Array>, byteLength);
      } catch (error) {
        if (isMissing(error)) return null;
        throw error;
      }
    });
  }

  /** At most DELETES_MAX; what is not there is deleted. @throws SluiceError `store_unavailable` */
  async remove(keys: readonly string[]): Promise<void> {
    if (keys.length === 0) return;
    await this.run(`delete ${keys.length} objects`, 0, async ({ client, library }, signal) => {
      const Delete = { Objects: keys.map((Key) => ({ Key })), Quiet: true };
      const command = new library.DeleteObjectsCommand({ Bucket: this.name, Delete });
      const { Errors = [] } = await client.send(command, { abortSignal: signal });
      const [first] = Errors;
      if (first !== undefined)
        throw new Error(
          `${Errors.length} of them are refused, the first with ${first.Code}: ${first.Message}`,
        );
    });
  }

  /** Writes, reads and deletes a small object, so that what is not allowed is known before the first call. */
  async check(): Promise<void> {
    const key = `${this.#options.prefix}check-${randomUUID()}`;
    const bytes = Buffer.from('Sluice looks whether it may write, read and delete here.');
    await this.put(key, bytes);
    if ((await this.get(key, bytes.byteLength)) === null)
      throw this.#failed('give what it just took', new Error('it does not have it'));
    await this.remove([key]);
  }

  /** What is under way fails. */
  async close(): Promise<void> {
    this.#closed.abort();
    await this.#queue.onIdle();
    const opened = await this.#opened?.catch(() => undefined);
    opened?.client.destroy();
  }

  /**
   * One operation, when a connection is free, for at most the time that so many bytes may take.
   *
   * @throws SluiceError `store_unavailable` that says what the bucket does not do
   */
  async run<T>(
    what: string,
    bytes: number,
    work: (opened: Opened, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    if (this.#queue.size >= WAITING_MAX)
      throw this.#failed(what, new Error(`${this.#queue.size} operations wait for it already`));
    try {
      return await this.#queue.add(async () => {
        this.#opened ??= open(this.#options);
        const opened = await this.#opened;
        this.#closed.signal.throwIfAborted();
        return work(opened, AbortSignal.any([this.#closed.signal, AbortSignal.timeout(limitMs(bytes))]));
      });
    } catch (error) {
      throw this.#failed(what, this.#closed.signal.aborted ? new Error('the store is closed') : error);
    }
  }

  #failed(what: string, error: unknown): SluiceError {
    return new SluiceError(
      'store_unavailable',
      `The bucket "${this.name}" does not ${what}: ${whyOf(error)}.`,
      {
        retry_after_seconds: 2,
      },
    );
  }
}

const gather = async (body: AsyncIterable<Uint8Array>, byteLength: number): Promise<Buffer> => {
  const bytes = Buffer.allocUnsafeSlow(byteLength);
  let at = 0;
  for await (const chunk of body) {
    if (at + chunk.byteLength > byteLength) throw new Error(`it has more than its ${byteLength} bytes`);
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  if (at !== byteLength) throw new Error(`it has ${at} of its ${byteLength} bytes`);
  return bytes;
};
