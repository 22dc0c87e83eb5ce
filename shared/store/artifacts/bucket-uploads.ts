/**
 * An upload to a bucket that any process goes on with. All that is known of it lies in the bucket:
 *
 *   partial/HEX            a note: the object that it becomes, its upload in parts, the length that was told
 *   the upload's parts     all of one size but the last, since S3 takes no small ones in between
 *   tails/HEX/…-OFFSET     what came after the last full part
 *
 * Two that send at once may both write a part, or the note; the last one counts, the other is told another offset. What
 * they make of it is checked as a whole before anything names it.
 */
import { createHash, randomUUID } from 'node:crypto';
import { SluiceError } from '../../errors/sluice-error.ts';
import type { Bucket } from '../bucket/bucket.ts';
import type { BucketObjects, Part } from '../bucket/bucket-objects.ts';

const MiB = 2 ** 20;
/** S3 takes parts from 5 MiB on, and 10,000 of them. */
const PART_BYTES_MIN = 8 * MiB;
const PARTS_MAX = 9000;

/** Stored as JSON. */
export type UploadNote = {
  readonly object: string;
  /** null: no part is full yet. */
  readonly uploadId: string | null;
  readonly bytes: number;
};

export type Progress = {
  readonly parts: readonly Part[];
  readonly partsBytes: number;
  readonly tailBytes: number;
  /** The object is there, and was not checked yet. */
  readonly isJoined: boolean;
};

export const NOTHING_YET: Progress = { parts: [], partsBytes: 0, tailBytes: 0, isJoined: false };

export const partBytesOf = (bytes: number): number =>
  Math.max(PART_BYTES_MIN, Math.ceil(bytes / PARTS_MAX / MiB) * MiB);

export const receivedOf = ({ partsBytes, tailBytes }: Progress): number => partsBytes + tailBytes;

/**
 * The tag that S3 gives an object of these parts (a digest of their digests); null where they have others, as encrypted
 * ones do. It tells whether the object is of the parts that were seen.
 */
export const tagOf = (parts: readonly Part[]): string | null => {
  const tags = parts.map(({ etag }) => etag.replaceAll('"', ''));
  if (!tags.every((tag) => /^[0-9a-f]{32}$/.test(tag))) return null;
  return `${createHash('md5').update(tags.join(''), 'hex').digest('hex')}-${tags.length}`;
};

/** Tells that the parts are those that were seen. */
export const markOf = (parts: readonly Part[]): string =>
  createHash('sha256')
    .update(parts.map(({ etag, bytes }) => `${etag} ${bytes}`).join())
    .digest('hex');

export class BucketUploads {
  readonly #bucket: Bucket;
  readonly #objects: BucketObjects;
  readonly #prefix: string;

  constructor(bucket: Bucket, objects: BucketObjects, prefix: string) {
    this.#bucket = bucket;
    this.#objects = objects;
    this.#prefix = prefix;
  }

  newNote(hex: string, bytes: number): UploadNote {
    return { object: this.newObject(hex), uploadId: null, bytes };
  }

  newObject(hex: string): string {
    return `${this.#prefix}objects/${hex}/${randomUUID()}`;
  }

  async note(hex: string): Promise<{ note: UploadNote; storedAt: number } | null> {
    const found = await this.#objects.note(`${this.#prefix}partial/${hex}`);
    return found && { note: JSON.parse(found.text) as UploadNote, storedAt: found.storedAt };
  }

  async write(hex: string, note: UploadNote): Promise<void> {
    await this.#bucket.put(`${this.#prefix}partial/${hex}`, Buffer.from(JSON.stringify(note)));
  }

  /**
   * The note with an upload in parts, which is begun where there is none: for an object of its own, so that another one
   * that was begun at the same time never becomes the same object.
   */
  async inParts(hex: string, note: UploadNote): Promise<UploadNote & { uploadId: string }> {
    if (note.uploadId !== null) return { ...note, uploadId: note.uploadId };
    const object = this.newObject(hex);
    const begun = { ...note, object, uploadId: await this.#objects.begin(object) };
    await this.write(hex, begun);
    const written = await this.note(hex);
    if (written?.note.uploadId === begun.uploadId) return begun;
    await this.#objects.abort({ key: begun.object, uploadId: begun.uploadId });
    throw new SluiceError(
      'changed_meanwhile',
      'Another upload of the same artifact was begun; ask for its offset.',
      {
        retry_after_seconds: 1,
      },
    );
  }

  async progress(note: UploadNote): Promise<Progress> {
    const listed = await this.#parts(note);
    if (listed === null) {
      const bytes = await this.#objects.bytesOf(note.object);
      return bytes === note.bytes ? { ...NOTHING_YET, partsBytes: bytes, isJoined: true } : NOTHING_YET;
    }
    const parts = listed.filter(({ number }, at) => number === at + 1);
    const partsBytes = parts.reduce((sum, { bytes }) => sum + bytes, 0);
    const tailBytes =
      partsBytes < note.bytes ? await this.#objects.bytesOf(this.tailOf(note, partsBytes)) : 0;
    const progress = { parts, partsBytes, tailBytes: tailBytes ?? 0, isJoined: false };
    return receivedOf(progress) > note.bytes ? NOTHING_YET : progress;
  }

  async #parts({ object, uploadId }: UploadNote): Promise<Part[] | null> {
    return uploadId === null ? [] : this.#objects.parts({ key: object, uploadId });
  }

  tailOf({ object }: UploadNote, offset: number): string {
    return `${object.replace(`${this.#prefix}objects/`, `${this.#prefix}tails/`)}-${offset}`;
  }

  /** When something of it was last written. */
  async touchedAt({ note, storedAt }: { note: UploadNote; storedAt: number }): Promise<number> {
    const times = [storedAt, ...((await this.#parts(note)) ?? []).map((part) => part.storedAt)];
    for await (const tail of this.#objects.list(this.#tails(note))) times.push(tail.storedAt);
    return times.reduce((a, b) => Math.max(a, b));
  }

  /** The note and the tails go; what was joined stays where `isKept`. */
  async forget(hex: string, note: UploadNote, isKept: boolean): Promise<void> {
    const { object, uploadId } = note;
    const keys = [`${this.#prefix}partial/${hex}`];
    for await (const { key } of this.#objects.list(this.#tails(note))) keys.push(key);
    if (!isKept) {
      if (uploadId !== null) await this.#objects.abort({ key: object, uploadId });
      keys.push(object);
    }
    await this.#bucket.remove(keys);
  }

  #tails(note: UploadNote): string {
    return this.tailOf(note, 0).slice(0, -1);
  }
}
