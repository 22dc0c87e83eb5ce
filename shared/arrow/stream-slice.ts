/** Rows of a stream as a stream of their own, buffer by buffer. */
import { BugError } from '../errors/sluice-error.ts';
import { BatchSink, dictionariesInto, type Emitted, joinBytes, sliceInto } from './batch-sink.ts';
import { END_OF_STREAM } from './message-frame.ts';
import type { ArrowStream, Batch } from './stream.ts';

/** The part of one batch that a range of the stream's rows covers; `first` counts from the batch's beginning. */
export type BatchRange = { readonly batch: Batch; readonly first: number; readonly count: number };

export function batchRanges(stream: ArrowStream, from: number, count: number): readonly BatchRange[] {
  if (from < 0 || count < 0 || from + count > stream.rows)
    throw new BugError(`rows ${from} + ${count} of a stream of ${stream.rows}`);
  const ranges: BatchRange[] = [];
  for (const batch of stream.batches) {
    const first = Math.max(from, batch.from);
    const end = Math.min(from + count, batch.from + batch.rows);
    if (first < end) ranges.push({ batch, first: first - batch.from, count: end - first });
  }
  return ranges;
}

/**
 * Rows [from, from + count) as a new IPC stream under the same schema; whole record batches go as they came, parts of
 * them with one copy per buffer at most, dictionaries go along.
 */
export const sliceStream = (stream: ArrowStream, from: number, count: number): Uint8Array =>
  joinBytes(slicePieces(stream, from, count));

/** The same in pieces, most of them views of the stream's own buffers. */
export function slicePieces(stream: ArrowStream, from: number, count: number): Uint8Array[] {
  const out: Uint8Array[] = [stream.schemaMessage];
  const emitted: Emitted = new Map();
  for (const { batch, first, count: rows } of batchRanges(stream, from, count)) {
    dictionariesInto(out, batch.columns, stream.nodes, emitted);
    if (rows === batch.rows) out.push(batch.message);
    else {
      const sink = new BatchSink();
      for (const column of batch.columns) sliceInto(sink, column, first, rows);
      out.push(...sink.batch(rows));
    }
  }
  out.push(END_OF_STREAM);
  return out;
}
