/** Bytes that were just written or read, least recently used first out. Outputs lie under their batch id, payloads under the negative call id. */
export class BlobCache {
  readonly #bytesMax: number;
  readonly #entries = new Map<number, Uint8Array>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get(key: number): Uint8Array | undefined {
    const bytes = this.#entries.get(key);
    if (bytes !== undefined) {
      this.#entries.delete(key);
      this.#entries.set(key, bytes);
    }
    return bytes;
  }

  set(key: number, bytes: Uint8Array): void {
    this.delete(key);
    this.#entries.set(key, bytes);
    this.#bytes += bytes.byteLength;
    for (const oldest of this.#entries.keys()) {
      // One entry stays whatever its size: a large call is read once, not once for each of its batches.
      if (this.#bytes <= this.#bytesMax || this.#entries.size === 1) return;
      this.delete(oldest);
    }
  }

  clear(): void {
    this.#entries.clear();
    this.#bytes = 0;
  }

  delete(key: number): void {
    const bytes = this.#entries.get(key);
    if (bytes === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= bytes.byteLength;
  }
}
