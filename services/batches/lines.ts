/** Lines of a file of any length, with where they lie. Blank ones are counted and left out. */

/** A line is held whole: 2,048 inputs of 8,192 characters. */
export const LINE_BYTES_MAX = 16 * 2 ** 20;

export type Line = {
  /** From 1 on. */
  readonly number: number;
  /** Of the byte after it and its end. */
  readonly endByte: number;
  /** Without its end; null: longer than it may be. */
  readonly bytes: Buffer | null;
};

const NEWLINE = 10;
const isBlank = (bytes: Uint8Array): boolean =>
  bytes.every((byte) => byte === 32 || byte === 9 || byte === 13);

/** @param from of the first chunk's first byte, which begins a line */
export async function* linesOf(
  chunks: AsyncIterable<Uint8Array>,
  from: { readonly byte: number; readonly line: number },
): AsyncGenerator<Line> {
  let number = from.line;
  let at = from.byte;
  let held: Uint8Array[] = [];
  let heldBytes = 0;
  const take = (part: Uint8Array): void => {
    heldBytes += part.byteLength;
    if (heldBytes <= LINE_BYTES_MAX) held.push(part);
    else held = [];
  };
  const end = (endByte: number): Line => {
    const isLong = heldBytes > LINE_BYTES_MAX;
    const bytes = isLong ? null : held.length === 1 ? bufferOf(held[0]!) : Buffer.concat(held);
    const line = { number, endByte, bytes };
    [held, heldBytes] = [[], 0];
    number += 1;
    return line;
  };
  for await (const chunk of chunks) {
    let start = 0;
    for (;;) {
      const newline = chunk.indexOf(NEWLINE, start);
      if (newline < 0) break;
      take(chunk.subarray(start, newline));
      start = newline + 1;
      const line = end(at + start);
      if (line.bytes === null || !isBlank(line.bytes)) yield line;
    }
    if (start < chunk.byteLength) take(chunk.slice(start));
    at += chunk.byteLength;
  }
  if (heldBytes === 0) return;
  const line = end(at);
  if (line.bytes === null || !isBlank(line.bytes)) yield line;
}

const bufferOf = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
