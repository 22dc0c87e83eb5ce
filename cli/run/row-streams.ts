/** Arrow streams of rows, cut and joined to the size of a chunk. */
import { openStream, readStream, sliceStream } from '../../shared/arrow/index.ts';

/** Bytes of a chunk at most: what is in flight is bounded by rows and by bytes. A single row above it goes alone. */
export const CHUNK_BYTES_MAX = 16 * 1024 * 1024;

const END = new Uint8Array([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);

/** Streams under one schema as one; their batches go as they are. The columns must have no dictionaries. */
export const joinStreams = (streams: readonly Uint8Array[]): Uint8Array => {
  if (streams.length === 1) return streams[0]!;
  const opened = streams.map(openStream);
  const messages = opened.flatMap((stream) => stream.batches.map(({ message }) => message));
  return new Uint8Array(Buffer.concat([opened[0]!.schemaMessage, ...messages, END]));
};

/** Rows of a stream in pieces of at most `rowsMax` rows, and of at most `CHUNK_BYTES_MAX` bytes as far as rows go. */
export function* pieces(bytes: Uint8Array, rowsMax: number): Generator<Uint8Array, void, undefined> {
  const stream = readStream(bytes);
  const rowBytes = stream.rows === 0 ? 0 : bytes.length / stream.rows;
  const count = Math.max(1, Math.min(rowsMax, Math.floor(CHUNK_BYTES_MAX / Math.max(1, rowBytes))));
  if (stream.rows <= count) {
    yield bytes;
    return;
  }
  for (let from = 0; from < stream.rows; from += count)
    yield sliceStream(stream, from, Math.min(count, stream.rows - from));
}

/** The same rows in streams as full as `rowsMax` and the byte limit allow. Small ones are joined, large ones are cut. */
export async function* packed(
  streams: AsyncIterable<Uint8Array>,
  rowsMax: number,
): AsyncGenerator<Uint8Array, void, undefined> {
  let waiting: Uint8Array[] = [];
  let rows = 0;
  let bytes = 0;
  for await (const stream of streams) {
    for (const piece of pieces(stream, rowsMax)) {
      const pieceRows = openStream(piece).rows;
      if (waiting.length > 0 && (rows + pieceRows > rowsMax || bytes + piece.length > CHUNK_BYTES_MAX)) {
        yield joinStreams(waiting);
        [waiting, rows, bytes] = [[], 0, 0];
      }
      waiting.push(piece);
      rows += pieceRows;
      bytes += piece.length;
    }
  }
  if (waiting.length > 0) yield joinStreams(waiting);
}
