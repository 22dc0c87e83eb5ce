/**
 * SHA-256 of uploads as their pieces come, so that the last piece need not read the whole file again. Kept by the thread
 * that computed it, for a file that is exactly as the thread left it; any other is read from its beginning at the end.
 */
import { createHash } from 'node:crypto';
import type { Digest } from '../../domain/model.ts';
import { digestOfHex } from './digest-text.ts';

/** Uploads that are under way at once; of more, the oldest are read again. */
const UPLOADS_MAX = 256;

export class RunningDigest {
  readonly #hash = createHash('sha256');
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  add(chunk: Uint8Array): void {
    this.#hash.update(chunk);
    this.#bytes += chunk.byteLength;
  }

  /** Nothing can be added after this. */
  finish(): Digest {
    return digestOfHex(this.#hash.digest('hex'));
  }
}

export const digestOfBody = async (body: AsyncIterable<Uint8Array>): Promise<Digest> => {
  const digest = new RunningDigest();
  for await (const chunk of body) digest.add(chunk);
  return digest.finish();
};

export class RunningDigests {
  readonly #kept = new Map<string, { readonly digest: RunningDigest; readonly left: string }>();

  /** @param left what tells that the bytes are those of the digest, when it was kept */
  take(hex: string, left: string): RunningDigest | null {
    const kept = this.#kept.get(hex);
    this.#kept.delete(hex);
    return kept?.left === left ? kept.digest : null;
  }

  keep(hex: string, digest: RunningDigest, left: string): void {
    this.#kept.delete(hex);
    this.#kept.set(hex, { digest, left });
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > UPLOADS_MAX) this.#kept.delete(oldest!);
  }
}
