/** A row group that is too large to be held in memory: its columns are read by their pages, each on its own. */
import type { ColumnMetaData, FileMetaData } from 'hyparquet';
import { getMaxRepetitionLevel, getSchemaPath } from 'hyparquet/src/schema.js';
import { allBeside } from '../../sdk/table.ts';
import { groupFooter, windowedBatches } from '../../shared/parquet/page-windows.ts';
import { hasKnownRows, largestPageBytes, type PagedColumn } from '../../shared/parquet/pages.ts';
import type { ParquetBatch, ParquetReader, ParquetRequest } from '../../shared/parquet/reader.ts';
import { CommandError } from '../failure.ts';

const MIB = 1024 * 1024;

/** Bytes as they are in the file. */
export type RowGroupLimits = {
  /** A row group up to here is read as a whole, which takes some four times as much memory (decision 0004). */
  readonly wholeBytesMax: number;
  /** Of a larger one, the smallest columns up to here are, all together. */
  readonly smallBytesMax: number;
  /** Of the pages in work, of all columns. A window reads up to a page of the one before again: tiny ones cost time. */
  readonly windowBytes: number;
  /** What has to be read as a whole and is larger comes near the 4 GiB that WebAssembly has. */
  readonly refusedBytesMin: number;
};

export const ROW_GROUP_LIMITS: RowGroupLimits = {
  wholeBytesMax: 32 * MIB,
  smallBytesMax: 8 * MIB,
  windowBytes: 16 * MIB,
  refusedBytesMin: 1024 * MIB,
};

type Column = {
  readonly name: string;
  readonly bytes: number;
  /** null: the rows of its pages cannot be told, so that it is read as a whole. */
  readonly paged: PagedColumn | null;
  /** The file has an index of its pages, by which the reader loads those alone of which rows are asked for. */
  readonly isIndexed: boolean;
};

export type LargeRowGroup = {
  readonly group: number;
  readonly rows: number;
  readonly columns: readonly Column[];
};

const isWhole = ({ paged, isIndexed }: Column): boolean => paged === null && !isIndexed;

const bytesOf = (columns: readonly { readonly bytes: number }[]): number =>
  columns.reduce((sum, { bytes }) => sum + bytes, 0);

/** null: the row group is small enough to be read as it is. */
export const largeRowGroup = (
  { row_groups, schema }: FileMetaData,
  group: number,
  names: readonly string[],
  { wholeBytesMax }: RowGroupLimits,
): LargeRowGroup | null => {
  const byName = new Map<string, { metadata: ColumnMetaData; leaf: number; isIndexed: boolean }[]>(
    names.map((name) => [name, []]),
  );
  row_groups[group]!.columns.forEach(({ meta_data: metadata, offset_index_offset: index }, leaf) => {
    const isIndexed = index !== undefined;
    if (metadata) byName.get(metadata.path_in_schema[0]!)?.push({ metadata, leaf, isIndexed });
  });
  const sized = [...byName].map(([name, leaves]) => ({
    name,
    leaves,
    bytes: leaves.reduce((sum, { metadata }) => sum + Number(metadata.total_compressed_size), 0),
  }));
  if (bytesOf(sized) <= wholeBytesMax) return null;
  const columns = sized.map(({ name, leaves, bytes }) => {
    const isIndexed = leaves.every((leaf) => leaf.isIndexed);
    const [only, another] = leaves;
    // The leaves of a struct have pages of their own, which end at other rows.
    if (only === undefined || another !== undefined) return { name, bytes, paged: null, isIndexed };
    const path = getSchemaPath(schema, only.metadata.path_in_schema);
    const column = { name, ...only, repetitionLevelMax: getMaxRepetitionLevel(path) };
    return { name, bytes, paged: hasKnownRows(column) ? column : null, isIndexed };
  });
  return { group, rows: Number(row_groups[group]!.num_rows), columns };
};

const refused = (file: string, what: string, bytes: number, bytesMax: number): CommandError =>
  new CommandError(
    `${file}: ${what} of ${Math.ceil(bytes / MIB)} MiB, which must be read at once; at most ${Math.floor(bytesMax / MIB)} MiB can be. Write the file with smaller row groups (pq.write_table(table, path, row_group_size=10_000)) or an index of its pages (write_page_index=True), or as Arrow or JSON Lines, or leave the column out with --keep or --column.`,
  );

/** @throws CommandError where a part is too large that cannot be read in pieces */
export const checkReadable = async (
  name: string,
  file: Blob,
  { group, columns }: LargeRowGroup,
  { refusedBytesMin }: RowGroupLimits,
): Promise<void> => {
  const whole = columns.filter(isWhole).sort((a, b) => b.bytes - a.bytes);
  if (bytesOf(whole) > refusedBytesMin)
    throw refused(
      name,
      `the column "${whole[0]!.name}" has nested values${whole.length > 1 ? ', as others have,' : ''} in row group ${group}`,
      bytesOf(whole),
      refusedBytesMin,
    );
  for (const { name: column, paged } of columns) {
    if (paged === null || Number(paged.metadata.total_uncompressed_size) <= refusedBytesMin) continue;
    const bytes = await largestPageBytes(file, paged);
    if (bytes > refusedBytesMin)
      throw refused(name, `the column "${column}" has a page in row group ${group}`, bytes, refusedBytesMin);
  }
};

/** Arrow streams of all columns, in any order. @throws ParquetError */
export async function* largeBatches(
  file: Blob,
  parquet: ParquetReader,
  { group, rows, columns }: LargeRowGroup,
  batchRows: number,
  limits: RowGroupLimits,
): AsyncGenerator<ParquetBatch, void, undefined> {
  const indexed = columns.filter((column) => column.paged === null && !isWhole(column));
  const paged = columns.filter((column) => column.paged !== null).sort((a, b) => a.bytes - b.bytes);
  const small = paged.filter((_, i) => bytesOf(paged.slice(0, i + 1)) <= limits.smallBytesMax);
  const footer = await groupFooter(file, group);
  const windowBytes = limits.windowBytes / (paged.length + indexed.length);
  const together = [...columns.filter(isWhole), ...small].map(({ name }) => name);
  const streams = paged
    .slice(small.length)
    .map(({ paged: column }) =>
      windowedBatches({ file, footer, column: column!, rows, batchRows, windowBytes }),
    );
  for (const { name, bytes } of indexed) {
    const windowRows = batchRows * Math.max(1, Math.floor((rows * windowBytes) / bytes / batchRows));
    streams.push(rangeBatches(parquet, { columns: [name], batchRows, rowGroups: [group] }, rows, windowRows));
  }
  if (together.length > 0)
    streams.push(parquet.batches({ columns: together, batchRows, rowGroups: [group] }));
  yield* inStep(streams);
}

async function* rangeBatches(
  parquet: ParquetReader,
  request: ParquetRequest,
  rows: number,
  windowRows: number,
): AsyncGenerator<ParquetBatch, void, undefined> {
  for (let offset = 0; offset < rows; offset += windowRows)
    yield* parquet.batches({ ...request, range: { offset, limit: Math.min(windowRows, rows - offset) } });
}

/** Batches of streams that are cut at the same rows, side by side. */
async function* inStep(
  streams: readonly AsyncGenerator<ParquetBatch, void, undefined>[],
): AsyncGenerator<ParquetBatch, void, undefined> {
  try {
    for (;;) {
      const batches: ParquetBatch[] = [];
      // One after the other: their parts in WebAssembly share one memory.
      for (const stream of streams) {
        const { value, done } = await stream.next();
        if (!done) batches.push(value);
      }
      const [first] = batches;
      if (first === undefined) return;
      if (batches.length < streams.length || batches.some(({ rows }) => rows !== first.rows))
        throw new Error(
          'Columns of a row group came in different batches. This is a bug in large-row-group.ts.',
        );
      yield {
        rows: first.rows,
        stream: allBeside(
          batches.map(({ stream }) => stream),
          [],
        ),
      };
    }
  } finally {
    for (const stream of streams) await stream.return();
  }
}
