/**
 * Artifacts in a bucket. An object is written under a name of its own, read as a whole where its digest was not computed
 * on the way, and only then named by `whole/HEX`: a note that says where the bytes lie. No object is ever written twice.
 */
import type { Digest } from '../../domain/model.ts';
import { SluiceError } from '../../errors/sluice-error.ts';
import { Bucket } from '../bucket/bucket.ts';
import { BucketObjects } from '../bucket/bucket-objects.ts';
import type { ArtifactState, Artifacts } from '../ports/artifacts.ts';
import { ArtifactsCache } from './artifacts-cache.ts';
import type { ArtifactsOptions } from './artifacts-settings.ts';
import { BucketPiece } from './bucket-piece.ts';
import {
  BucketUploads,
  NOTHING_YET,
  type Progress,
  partBytesOf,
  receivedOf,
  type UploadNote,
} from './bucket-uploads.ts';
import { digestOfHex, hexOf, isHex } from './digest-text.ts';
import { checkPiece, notFound, startsAnew } from './refusals.ts';
import { RunningDigests } from './running-digests.ts';

/** Read in one request. */
const RANGE_BYTES = 8 * 2 ** 20;
/** What all uploads and reads of this client hold in memory; more is refused for a moment. */
const HELD_BYTES_MAX = 512 * 2 ** 20;
const RENEW_MS = 3_600_000;
/** Notes that are read at once for a list. */
const NOTES_AT_ONCE = 16;
const UUID_LENGTH = 36;

type Whole = { readonly object: string; readonly bytes: number };
type Named = { readonly whole: Whole; readonly storedAt: number };

export class BucketArtifacts implements Artifacts {
  readonly #bucket: Bucket;
  readonly #objects: BucketObjects;
  readonly #uploads: BucketUploads;
  readonly #prefix: string;
  readonly #cache: ArtifactsCache;
  readonly #digests = new RunningDigests();
  #heldBytes = 0;

  constructor(options: ArtifactsOptions & { readonly kind: 'bucket' }) {
    this.#bucket = new Bucket(options.bucket);
    this.#objects = new BucketObjects(this.#bucket);
    this.#prefix = `${options.bucket.prefix}artifacts/`;
    this.#uploads = new BucketUploads(this.#bucket, this.#objects, this.#prefix);
    this.#cache = new ArtifactsCache(this, options);
  }

  async state(digest: Digest): Promise<ArtifactState> {
    const hex = hexOf(digest);
    const found = await this.#whole(hex);
    if (found !== null) {
      if (Date.now() - found.storedAt > RENEW_MS) await this.#name(hex, found.whole);
      const { bytes } = found.whole;
      return { digest, isComplete: true, receivedBytes: bytes, bytes };
    }
    const { note, progress } = await this.#begun(hex);
    return {
      ...{ digest, isComplete: false },
      ...{ receivedBytes: receivedOf(progress), bytes: note?.bytes ?? null },
    };
  }

  async append(piece: Parameters<Artifacts['append']>[0]): Promise<ArtifactState> {
    const { digest, bytes } = piece;
    const hex = hexOf(digest);
    checkPiece(piece);
    if ((await this.#whole(hex)) !== null) return this.state(digest);
    let { note, progress } = await this.#begun(hex);
    if (
      startsAnew(piece, { receivedBytes: receivedOf(progress), bytes: note?.bytes ?? null }) &&
      note !== null
    ) {
      await this.#uploads.forget(hex, note, false);
      [note, progress] = [null, NOTHING_YET];
    }
    const holding = Math.min(partBytesOf(bytes), bytes - progress.partsBytes);
    return this.#holding(holding, async () => {
      const work = new BucketPiece({
        ...{ piece, hex, progress, holdBytes: holding, note: note ?? this.#uploads.newNote(hex, bytes) },
        ...{ bucket: this.#bucket, objects: this.#objects, uploads: this.#uploads, digests: this.#digests },
      });
      const receivedBytes = await work.receive();
      if (receivedBytes < bytes) return { digest, isComplete: false, receivedBytes, bytes };
      const object = await work.finish((key) => this.#bytes(key, 0, bytes));
      await this.#name(hex, { object, bytes });
      await work.forget();
      return { digest, isComplete: true, receivedBytes: bytes, bytes };
    });
  }

  async read({ digest, fromByte = 0, toByte }: Parameters<Artifacts['read']>[0]) {
    const found = await this.#whole(hexOf(digest));
    if (found === null) throw notFound(digest);
    const { object, bytes } = found.whole;
    const to = Math.min(toByte ?? bytes, bytes);
    const body = this.#bytes(object, Math.max(0, fromByte), to);
    return { bytes, body };
  }

  file(digest: Digest, signal: AbortSignal): Promise<string> {
    return this.#cache.file(digest, signal);
  }

  async *list() {
    const prefix = `${this.#prefix}whole/`;
    const found = this.#objects.list(prefix);
    for (let page = await nextOf(found); page.length > 0; page = await nextOf(found)) {
      const notes = await Promise.all(page.map(({ key }) => this.#whole(key.slice(prefix.length))));
      for (const [at, note] of notes.entries()) {
        if (note === null) continue;
        const digest = digestOfHex(page[at]!.key.slice(prefix.length));
        yield { digest, bytes: note.whole.bytes, storedAt: note.storedAt };
      }
    }
  }

  async remove(digest: Digest, storedBefore = Number.POSITIVE_INFINITY): Promise<boolean> {
    const hex = hexOf(digest);
    const found = await this.#whole(hex);
    if (found === null || found.storedAt >= storedBefore) return false;
    // The name first: what is named is there.
    await this.#bucket.remove([`${this.#prefix}whole/${hex}`]);
    await this.#bucket.remove([found.whole.object]);
    return true;
  }

  async dropUploads(touchedBefore: number): Promise<number> {
    let dropped = 0;
    const prefix = `${this.#prefix}partial/`;
    for await (const { key } of this.#objects.list(prefix)) {
      const hex = key.slice(prefix.length);
      const found = await this.#uploads.note(hex);
      if (found === null || (await this.#uploads.touchedAt(found)) >= touchedBefore) continue;
      const isNamed = (await this.#whole(hex))?.whole.object === found.note.object;
      await this.#uploads.forget(hex, found.note, isNamed);
      dropped += 1;
    }
    return dropped + (await this.#dropUnnamed(touchedBefore));
  }

  async close(): Promise<void> {
    await this.#bucket.close();
  }

  /** What crashes, and two that sent the same at once, left behind. */
  async #dropUnnamed(touchedBefore: number): Promise<number> {
    let dropped = 0;
    for (const kind of ['objects', 'tails']) {
      const prefix = `${this.#prefix}${kind}/`;
      for await (const { key, storedAt } of this.#objects.list(prefix)) {
        const [hex = '', name = ''] = key.slice(prefix.length).split('/');
        if (storedAt >= touchedBefore || !isHex(hex)) continue;
        const named = [(await this.#whole(hex))?.whole, (await this.#uploads.note(hex))?.note];
        // A tail is named after its object, with an offset behind it.
        if (named.some((one) => one?.object.endsWith(`/${hex}/${name.slice(0, UUID_LENGTH)}`))) continue;
        await this.#bucket.remove([key]);
        dropped += 1;
      }
    }
    return dropped;
  }

  async #begun(hex: string): Promise<{ note: UploadNote | null; progress: Progress }> {
    const found = await this.#uploads.note(hex);
    if (found === null) return { note: null, progress: NOTHING_YET };
    return { note: found.note, progress: await this.#uploads.progress(found.note) };
  }

  async #whole(hex: string): Promise<Named | null> {
    const found = await this.#objects.note(`${this.#prefix}whole/${hex}`);
    return found && { whole: JSON.parse(found.text) as Whole, storedAt: found.storedAt };
  }

  async #name(hex: string, whole: Whole): Promise<void> {
    await this.#bucket.put(`${this.#prefix}whole/${hex}`, Buffer.from(JSON.stringify(whole)));
  }

  async *#bytes(key: string, from: number, to: number): AsyncGenerator<Uint8Array> {
    const holding = Math.min(RANGE_BYTES, Math.max(0, to - from));
    this.#hold(holding);
    try {
      for (let at = from; at < to; at += RANGE_BYTES) {
        const end = Math.min(to, at + RANGE_BYTES);
        const bytes = await this.#objects.range(key, at, end);
        if (bytes?.byteLength !== end - at)
          throw new SluiceError('changed_meanwhile', 'The artifact was removed while it was read.');
        yield bytes;
      }
    } finally {
      this.#heldBytes -= holding;
    }
  }

  async #holding<T>(bytes: number, work: () => Promise<T>): Promise<T> {
    this.#hold(bytes);
    try {
      return await work();
    } finally {
      this.#heldBytes -= bytes;
    }
  }

  #hold(bytes: number): void {
    if (this.#heldBytes > 0 && this.#heldBytes + bytes > HELD_BYTES_MAX)
      throw new SluiceError(
        'queue_full',
        'The server moves as many artifacts at once as it may hold in memory.',
        {
          retry_after_seconds: 2,
        },
      );
    this.#heldBytes += bytes;
  }
}

const nextOf = async <T>(found: AsyncGenerator<T>): Promise<T[]> => {
  const page: T[] = [];
  while (page.length < NOTES_AT_ONCE) {
    const { value, done } = await found.next();
    if (done === true) break;
    page.push(value);
  }
  return page;
};
