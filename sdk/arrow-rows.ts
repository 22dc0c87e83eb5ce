/** Rows of Arrow streams, cut and picked by their buffers; no value is read, so none can change. Not for browsers. */
import {
  batchRanges,
  isNullAt,
  pickedStream,
  type RowRun,
  readStreamOnce,
  type SliceSource,
  sliceStream,
} from '../shared/arrow/index.ts';

export type ArrowRows = { readonly source: SliceSource; readonly from: number; readonly rows: number };

/** All rows of a stream. @throws SluiceError `invalid_arrow` */
export const streamRows = (bytes: Uint8Array): ArrowRows => {
  const source = readStreamOnce(bytes);
  return { source, from: 0, rows: source.rows };
};

/** The rows with these numbers, which ascend. */
export const pickedRows = ({ source, from, rows }: ArrowRows, picked: readonly number[]): ArrowRows => {
  const { bytes } = readStreamOnce(sliceStream(source, from, rows));
  return streamRows(pickedStream({ streams: [bytes], runs: runsOf(picked) }, null));
};

const runsOf = (rows: readonly number[]): readonly RowRun[] => {
  const runs: { from: number; count: number }[] = [];
  for (const row of rows) {
    const last = runs.at(-1);
    if (last && last.from + last.count === row) last.count += 1;
    else runs.push({ from: row, count: 1 });
  }
  return runs;
};

/** The rows that are null in a column, counted from `from`; none where there is no such column. */
export const nullRows = ({ source, from, rows }: ArrowRows, column: string): ReadonlySet<number> => {
  const at = source.nodes.findIndex(({ name }) => name === column);
  const nulls = new Set<number>();
  for (const { batch, first, count } of at < 0 ? [] : batchRanges(source, from, rows))
    for (let row = first; row < first + count; row++)
      if (isNullAt(batch.columns[at]!, row)) nulls.add(batch.from + row - from);
  return nulls;
};
