/**
 * Reads outputs: each once, whoever asks for it meanwhile, and some before anybody asks. A call whose result is waited for is
 * given its outputs as they settle, so that they lie here when it ends (measured, see docs/decisions/0007).
 *
 *   to-calls: @RECORD:BYTES ─► ahead ─► cache ◄─ read ◄─ a result
 */
import type { BlobCache } from '../blob-cache.ts';
import type { LargeBytes } from './large-bytes.ts';
import { batchIdOf, type Layout } from './layout.ts';
import type { Link } from './link.ts';

type OutputPlaces = {
  readonly link: Link;
  readonly layout: Layout;
  readonly largeBytes: LargeBytes;
};

/** A batch's output, from its record, from the key beside it, or from the bucket; null: it is not there any more. */
export const readOutputBytes = async (
  { link, layout, largeBytes }: OutputPlaces,
  fn: number,
  record: number,
): Promise<Buffer | null> => {
  // Asked together, since most outputs lie in one of the two.
  const [fields, beside] = await Promise.all([
    link.command<(Buffer | null)[]>('HMGET', layout.key(fn, 'output', record), 'o', 's'),
    link.command<Buffer | null>('GET', layout.key(fn, 'bytes', record)),
  ]);
  const [inline, reference] = fields;
  if (reference) return largeBytes.read(String(reference));
  return inline ?? beside;
};

export class OutputReads {
  readonly #places: OutputPlaces;
  readonly #blobs: BlobCache;
  readonly #reading = new Map<number, Promise<Uint8Array | null>>();

  constructor(places: OutputPlaces, blobs: BlobCache) {
    this.#places = places;
    this.#blobs = blobs;
  }

  /** null: it is not there any more. */
  async read(fn: number, record: number): Promise<Uint8Array | null> {
    const batchId = batchIdOf(fn, record);
    return (
      this.#blobs.get(batchId) ?? (await (this.#reading.get(batchId) ?? this.#begin(fn, record, batchId)))
    );
  }

  /** What cannot be read now is asked for again by who needs it. */
  ahead(fn: number, record: number): void {
    this.read(fn, record).catch(() => undefined);
  }

  #begin(fn: number, record: number, batchId: number): Promise<Uint8Array | null> {
    const reading = readOutputBytes(this.#places, fn, record)
      .then((bytes) => {
        if (bytes !== null) this.#blobs.set(batchId, bytes);
        return bytes;
      })
      .finally(() => this.#reading.delete(batchId));
    this.#reading.set(batchId, reading);
    return reading;
  }
}
