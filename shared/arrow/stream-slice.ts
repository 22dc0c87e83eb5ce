/** Rows of a stream as a stream of their own, buffer by buffer. */
import { BugError } from '../errors/sluice-error.ts';
import { BatchSink, dictionariesInto, type Emitted, joinBytes, sliceInto } from './batch-sink.ts';
import { END_OF_STREAM } from './message-frame.ts';
import type { ArrowStream, Batch } from './stream.ts';

/** What rows are cut from: a verified stream, or arrays that lie in memory and have no messages yet. */
export type SliceSource = Pick<ArrowStream, 'schemaMessage' | 'nodes' | 'rows'> & {
  readonly batches: readonly (Omit<Batch, 'message'> & { readonly message?: Uint8Array })[];
};

/** The part of one batch that a range of the stream's rows covers; `first` counts from the batch's beginning. */
export type BatchRange<B = Batch> = { readonly batch: B; readonly first: number; readonly count: number };

export function batchRanges<B extends Pick<Batch, 'from' | 'rows'>>(
  stream: { readonly rows: number; readonly batches: readonly B[] },
  from: number,
  count: number,
): readonly BatchRange<B>[] {
  if (from < 0 || count < 0 || from + count > stream.rows)
    throw new BugError(`rows ${from} + ${count} of a stream of ${stream.rows}`);
  const ranges: BatchRange<B>[] = [];
  for (const batch of stream.batches) {
    const first = Math.max(from, batch.from);
    const end = Math.min(from + count, batch.from + batch.rows);
    if (first < end) ranges.push({ batch, first: first - batch.from, count: end - first });
  }
  return ranges;
}

/**
 * Rows [from, from + count) as a new IPC stream under the same schema; whole record batches of a stream go as they came, parts
 * of them with one copy per buffer at most, dictionaries go along.
 */
export const sliceStream = (stream: SliceSource, from: number, count: number): Uint8Array =>
  joinBytes(slicePieces(stream, from, count));

/** The same in pieces, most of them views of the stream's own buffers. */
export function slicePieces(stream: SliceSource, from: number, count: number): Uint8Array[] {
  const out: Uint8Array[] = [stream.schemaMessage];
  const emitted: Emitted = new Map();
  for (const { batch, first, count: rows } of batchRanges(stream, from, count)) {
    dictionariesInto(out, batch.columns, stream.nodes, emitted);
    if (rows === batch.rows && batch.message !== undefined) out.push(batch.message);
    else {
      const sink = new BatchSink();
      for (const column of batch.columns) sliceInto(sink, column, first, rows);
      out.push(...sink.batch(rows));
    }
  }
  out.push(END_OF_STREAM);
  return out;
}
