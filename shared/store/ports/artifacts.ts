/**
 * Large files by the digest of their bytes: model weights, files of a build. On a disk directory or in a bucket; apart from
 * the queue's store, since nothing is atomic between the two: a document names only digests that are whole.
 *
 * An upload comes in pieces, each at the offset that is reached, so that one that broke off goes on where it was. The last
 * piece is answered after the digest was computed over all bytes; a wrong one drops the upload.
 */
import type { Digest } from '../../domain/model.ts';

/** Of one file: the largest checkpoints are cut into files of a few gigabytes. */
export const ARTIFACT_BYTES_MAX = 2 ** 40;

export type ArtifactState = {
  readonly digest: Digest;
  readonly isComplete: boolean;
  /** Bytes that are durable so far: where the next piece begins. */
  readonly receivedBytes: number;
  /** Of the whole file; null while nothing was received. */
  readonly bytes: number | null;
};

export interface Artifacts {
  /** Asking for one that is whole makes it count as stored now: who finds it there need not send it, and comes to name it. */
  state(digest: Digest): Promise<ArtifactState>;
  /**
   * Appends what `body` gives, up to its end or its failure: what was received before a failure is kept. A piece at offset 0
   * that tells another length begins anew. Of one that is whole nothing is read from `body`.
   * @throws SluiceError `artifact_offset_conflict` (the state is in its members), `artifact_digest_mismatch`,
   *   `changed_meanwhile` (another upload of the same bytes is under way and does not end), `disk_full`,
   *   `payload_too_large` (more bytes than are left of the file), `store_unavailable`
   */
  append(piece: {
    readonly digest: Digest;
    readonly offsetBytes: number;
    /** Of the whole file; the same with every piece. */
    readonly bytes: number;
    readonly body: AsyncIterable<Uint8Array>;
  }): Promise<ArtifactState>;
  /** @throws SluiceError `artifact_not_found` when it is not there or not whole */
  read(query: {
    readonly digest: Digest;
    readonly fromByte?: number;
    /** Exclusive. */
    readonly toByte?: number;
  }): Promise<{ readonly bytes: number; readonly body: AsyncIterable<Uint8Array> }>;
  /**
   * A file of this machine with exactly these bytes, checked against the digest when it was written; fetched where the
   * bytes lie in a bucket. Read-only for the caller.
   */
  file(digest: Digest, signal: AbortSignal): Promise<string>;
  /** Digests that are whole, and since when; for whoever looks for those that nothing refers to. */
  list(): AsyncIterable<{ readonly digest: Digest; readonly bytes: number; readonly storedAt: number }>;
  /** @param storedBefore leaves it where it is when it was stored, or asked for, since then */
  remove(digest: Digest, storedBefore?: number): Promise<boolean>;
  /** Drops uploads that nobody has added to since then. @returns how many */
  dropUploads(touchedBefore: number): Promise<number>;
  close(): Promise<void>;
}
