/** One piece of an upload to a bucket: gathered into parts, of which one is in memory. */
import type { Bucket } from '../bucket/bucket.ts';
import type { BucketObjects, Part } from '../bucket/bucket-objects.ts';
import type { Artifacts } from '../ports/artifacts.ts';
import {
  type BucketUploads,
  markOf,
  type Progress,
  partBytesOf,
  tagOf,
  type UploadNote,
} from './bucket-uploads.ts';
import { busy, tooLong, wrongDigest } from './refusals.ts';
import { digestOfBody, RunningDigest, type RunningDigests } from './running-digests.ts';

type Work = {
  readonly piece: Parameters<Artifacts['append']>[0];
  readonly hex: string;
  readonly note: UploadNote;
  readonly progress: Progress;
  readonly holdBytes: number;
  readonly bucket: Bucket;
  readonly objects: BucketObjects;
  readonly uploads: BucketUploads;
  readonly digests: RunningDigests;
};

export class BucketPiece {
  readonly #work: Work;
  readonly #parts: Part[];
  readonly #partBytes: number;
  readonly #held: Buffer;
  #note: UploadNote;
  /** Bytes in `#held`. */
  #heldBytes = 0;
  #partsBytes: number;
  /** Of the parts; null where some of them were not seen here. */
  #digest: RunningDigest | null;

  constructor(work: Work) {
    const { hex, note, progress, piece } = work;
    this.#work = work;
    this.#note = note;
    this.#parts = [...progress.parts];
    this.#partsBytes = progress.partsBytes;
    this.#partBytes = partBytesOf(piece.bytes);
    this.#held = Buffer.allocUnsafeSlow(work.holdBytes);
    this.#digest = progress.partsBytes === 0 ? new RunningDigest() : work.digests.take(hex, this.#mark());
  }

  /** @returns the bytes that the bucket has then, or would have with what is still held of a file that is at its end */
  async receive(): Promise<number> {
    const { piece, progress } = this.#work;
    await this.#loadTail(progress.tailBytes);
    try {
      for await (const chunk of piece.body) await this.#add(chunk);
    } catch (error) {
      await this.#rest();
      throw error;
    }
    if (this.#received() < piece.bytes) await this.#rest();
    return this.#received();
  }

  /**
   * Makes the object and checks it.
   *
   * @param read the bytes of an object
   * @returns its key
   */
  async finish(read: (key: string) => AsyncIterable<Uint8Array>): Promise<string> {
    const { piece, bucket, uploads, hex, progress } = this.#work;
    const object = progress.isJoined ? this.#note.object : await this.#object();
    const found = this.#digest === null ? await digestOfBody(read(object)) : this.#digest.finish();
    if (found === piece.digest) return object;
    await bucket.remove([object]);
    await uploads.forget(hex, this.#note, false);
    throw wrongDigest(piece.digest, found, piece.bytes);
  }

  async #object(): Promise<string> {
    const { piece, bucket, objects, uploads, hex } = this.#work;
    if (this.#parts.length === 0) {
      const bytes = this.#held.subarray(0, this.#heldBytes);
      const object = uploads.newObject(hex);
      await bucket.put(object, bytes);
      this.#digest?.add(bytes);
      return object;
    }
    if (this.#heldBytes > 0) await this.#putPart();
    const { object, uploadId } = this.#note;
    const tag = uploadId && (await objects.join({ key: object, uploadId }, this.#parts));
    if (tag === null) throw busy(piece.digest);
    // Another may have joined it, of other parts: then its bytes are read.
    if (tag.replaceAll('"', '') !== tagOf(this.#parts)) this.#digest = null;
    return object;
  }

  /** Once the object has its name. */
  async forget(): Promise<void> {
    const { uploads, hex } = this.#work;
    await uploads.forget(hex, this.#note, true);
  }

  #received(): number {
    return this.#partsBytes + this.#heldBytes;
  }

  #mark(): string {
    return `${this.#note.object} ${markOf(this.#parts)}`;
  }

  async #loadTail(tailBytes: number): Promise<void> {
    if (tailBytes === 0) return;
    const { objects, uploads } = this.#work;
    // What came behind it meanwhile comes again.
    const tail = await objects.range(uploads.tailOf(this.#note, this.#partsBytes), 0, tailBytes);
    if (tail?.byteLength !== tailBytes) throw busy(this.#work.piece.digest);
    this.#held.set(tail);
    this.#heldBytes = tailBytes;
  }

  async #add(chunk: Uint8Array): Promise<void> {
    const { piece } = this.#work;
    if (this.#received() + chunk.byteLength > piece.bytes) throw tooLong(piece);
    for (let at = 0; at < chunk.byteLength; ) {
      const count = Math.min(chunk.byteLength - at, this.#partBytes - this.#heldBytes);
      this.#held.set(chunk.subarray(at, at + count), this.#heldBytes);
      this.#heldBytes += count;
      at += count;
      // What ends the file is the last part, or a file of one part: `finish` knows.
      if (this.#heldBytes === this.#partBytes && this.#received() < piece.bytes) await this.#putPart();
    }
  }

  async #putPart(): Promise<void> {
    const { uploads, objects, bucket, hex, piece } = this.#work;
    const before = this.#note;
    const note = await uploads.inParts(hex, before);
    this.#note = note;
    const bytes = this.#held.subarray(0, this.#heldBytes);
    const part = await objects.putPart(
      { key: note.object, uploadId: note.uploadId },
      this.#parts.length + 1,
      bytes,
    );
    if (part === null) throw busy(piece.digest);
    if (note.object !== before.object) await bucket.remove([uploads.tailOf(before, 0)]);
    this.#digest?.add(bytes);
    this.#parts.push(part);
    this.#partsBytes += this.#heldBytes;
    this.#heldBytes = 0;
  }

  /** What does not fill a part lies beside it until the next piece comes. */
  async #rest(): Promise<void> {
    const { uploads, bucket, hex, digests, progress } = this.#work;
    if (progress.isJoined) return;
    if (this.#heldBytes > 0) {
      await bucket.put(uploads.tailOf(this.#note, this.#partsBytes), this.#held.subarray(0, this.#heldBytes));
      if (this.#note === this.#work.note) await uploads.write(hex, this.#note);
    }
    if (this.#digest !== null && this.#parts.length > 0) digests.keep(hex, this.#digest, this.#mark());
  }
}
