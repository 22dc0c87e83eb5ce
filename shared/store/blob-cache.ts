/** Bytes that were just written or read, least recently used first out. Outputs lie under their batch id, payloads under the negative call id. */

/** Small bytes cost the collector as much as they weigh. */
const WEIGHED_BYTES_MIN = 65_536;
/** As for the frames of handlers: the whole would collect four times as often. */
const WEIGHED_SHARE = 4;

type Entry = { readonly bytes: Uint8Array; readonly weight: Uint8Array | null };

/**
 * V8 does not count shared memory, and this thread makes little other garbage: measured, it let 1.5 GB of dead outputs lie
 * about. An untouched allocation, which V8 does count, grows old and dies with each of them.
 */
const weightOf = ({ buffer, byteLength }: Uint8Array): Uint8Array | null =>
  buffer instanceof SharedArrayBuffer && byteLength >= WEIGHED_BYTES_MIN
    ? Buffer.allocUnsafeSlow(Math.ceil(byteLength / WEIGHED_SHARE))
    : null;

export class BlobCache {
  readonly #bytesMax: number;
  readonly #entries = new Map<number, Entry>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** A look that does not count as a use. */
  has(key: number): boolean {
    return this.#entries.has(key);
  }

  get(key: number): Uint8Array | undefined {
    const entry = this.#entries.get(key);
    if (entry !== undefined) {
      this.#entries.delete(key);
      this.#entries.set(key, entry);
    }
    return entry?.bytes;
  }

  set(key: number, bytes: Uint8Array): void {
    this.delete(key);
    this.#entries.set(key, { bytes, weight: weightOf(bytes) });
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
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= entry.bytes.byteLength;
  }
}
