/** Parquet files, read a row group's columns at a time, and a large row group by its pages. */
import { openAsBlob } from 'node:fs';
import { asyncBufferFromFile, parquetMetadataAsync, parquetSchema } from 'hyparquet';
import { type Selection, selectColumns } from '../../sdk/table.ts';
import {
  openParquet,
  type ParquetBatch,
  ParquetError,
  type ParquetReader,
  type ParquetRequest,
} from '../../shared/parquet/reader.ts';
import { CommandError } from '../failure.ts';
import {
  checkReadable,
  type LargeRowGroup,
  largeBatches,
  largeRowGroup,
  ROW_GROUP_LIMITS,
} from './large-row-group.ts';
import type { RowRequest, RowSource } from './row-source.ts';
import { CHUNK_BYTES_MAX, packed } from './row-streams.ts';

/** The magic number twice, and the length of the footer. */
const SIZE_BYTES_MIN = 12;

const unreadable = (file: string, error: unknown): CommandError =>
  new CommandError(
    `${file} cannot be read as Parquet (${error instanceof Error ? error.message : String(error)}); check that it is whole.`,
  );

export const parquetSource = async (file: string): Promise<RowSource> => {
  const blob = await openAsBlob(file);
  if (blob.size < SIZE_BYTES_MIN) throw unreadable(file, `it has ${blob.size} bytes`);
  const metadata = await parquetMetadataAsync(await asyncBufferFromFile(file)).catch((error: unknown) => {
    throw unreadable(file, error);
  });
  const rowsTotal = Number(metadata.num_rows);
  const bytesTotal = metadata.row_groups.reduce((sum, group) => sum + Number(group.total_byte_size), 0);
  let rowsRead = 0;

  async function* batches({ columns, rowsMax }: RowRequest): AsyncGenerator<Uint8Array, void, undefined> {
    const selection: Selection[] = columns.map((column) => ({ column, as: column }));
    const perRow = rowsTotal === 0 ? 1 : Math.max(1, bytesTotal / rowsTotal);
    const batchRows = Math.max(1, Math.min(rowsMax, Math.floor(CHUNK_BYTES_MAX / perRow)));
    const large = metadata.row_groups.flatMap(
      (_, group) => largeRowGroup(metadata, group, columns, ROW_GROUP_LIMITS) ?? [],
    );
    for (const group of large) await checkReadable(file, blob, group, ROW_GROUP_LIMITS);
    const parquet = await openParquet(blob);
    try {
      for await (const batch of groupBatches(parquet, { columns, batchRows }, large)) {
        rowsRead += batch.rows;
        yield selectColumns(batch.stream, selection);
      }
    } finally {
      parquet.close();
    }
  }

  async function* groupBatches(
    parquet: ParquetReader,
    request: ParquetRequest,
    large: readonly LargeRowGroup[],
  ): AsyncGenerator<ParquetBatch, void, undefined> {
    if (large.length === 0) {
      yield* parquet.batches(request);
      return;
    }
    for (const group of metadata.row_groups.keys()) {
      const plan = large.find((one) => one.group === group);
      if (plan) yield* largeBatches(blob, parquet, plan, request.batchRows, ROW_GROUP_LIMITS);
      else yield* parquet.batches({ ...request, rowGroups: [group] });
    }
  }

  async function* rows(request: RowRequest): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      yield* packed(batches(request), request.rowsMax);
    } catch (error) {
      throw error instanceof ParquetError ? unreadable(file, error) : error;
    }
  }

  return {
    columns: parquetSchema(metadata).children.map(({ element }) => element.name),
    rowsTotal,
    rows,
    readShare: () => (rowsTotal === 0 ? 1 : rowsRead / rowsTotal),
  };
};
