/** The outputs that were read lately, so that the rows of a batch which belong to many calls are decoded once a thread. */
import type { OutputRef, ResultPart } from '../../shared/store/ports/queue.ts';

/** Batches in flight at a time are few; what is not here is only decoded again. */
const OUTPUTS_MAX = 64;
/** A large output belongs to few calls, and would stay in memory for nothing. */
const OUTPUT_BYTES_MAX = 2 ** 20;

export class OutputCache {
  readonly #bytes = new Map<number, Uint8Array>();

  /** The parts with each output as the bytes object that was seen first: the decoder remembers by object. */
  shared(parts: readonly ResultPart[]): readonly ResultPart[] {
    for (let i = 0; i < parts.length; i += 1) {
      const part = parts[i]!;
      if (part.state === 'ok' && this.#shared(part.output) !== part.output.bytes)
        return this.#replaced(parts);
    }
    return parts;
  }

  #replaced(parts: readonly ResultPart[]): ResultPart[] {
    return parts.map((part) =>
      part.state === 'ok'
        ? { ...part, output: { batchId: part.output.batchId, bytes: this.#shared(part.output) } }
        : part,
    );
  }

  #shared({ batchId, bytes }: OutputRef): Uint8Array {
    const known = this.#bytes.get(batchId);
    if (known !== undefined && known.byteLength === bytes.byteLength) return known;
    if (bytes.byteLength > OUTPUT_BYTES_MAX) return bytes;
    if (this.#bytes.size >= OUTPUTS_MAX) {
      const [oldest] = this.#bytes.keys();
      this.#bytes.delete(oldest!);
    }
    this.#bytes.set(batchId, bytes);
    return bytes;
  }
}
