/** Parquet to Arrow streams, a row group's columns at a time (parquet-wasm: docs/decisions/0004-parquet.md). */
import { ParquetFile, type RecordBatch } from 'parquet-wasm';
import { isTrap } from './trap.ts';

export class ParquetError extends Error {
  /** See trap.ts. */
  readonly isTrap: boolean;

  constructor(message: string, isTrap: boolean) {
    super(message);
    this.isTrap = isTrap;
  }
}

/** The library throws texts, and panics arrive as traps, which say nothing to a reader of the message. */
const described = (error: unknown): unknown => {
  if (typeof error === 'string') return new ParquetError(error, false);
  if (isTrap(error)) return new ParquetError('a part of it is not valid', true);
  return error;
};

export type ParquetRequest = {
  readonly columns: readonly string[];
  /** Of one stream at most. */
  readonly batchRows: number;
  /** All, where there is none. */
  readonly rowGroups?: readonly number[];
  /** Of the rows of one row group. */
  readonly range?: { readonly offset: number; readonly limit: number };
};

/** Rows of a file as an Arrow stream. */
export type ParquetBatch = { readonly rows: number; readonly stream: Uint8Array };

export type ParquetReader = {
  readonly rows: number;
  /** An Arrow stream without rows. */
  readonly schema: Uint8Array;
  /** In row order; a file without rows gives one batch without rows. @throws ParquetError */
  readonly batches: (request: ParquetRequest) => AsyncGenerator<ParquetBatch, void, undefined>;
  readonly close: () => void;
};

/** @throws ParquetError that says what of the file cannot be read */
export const openParquet = async (file: Blob): Promise<ParquetReader> => {
  let parquet: ParquetFile;
  try {
    parquet = await ParquetFile.fromFile(file);
  } catch (error) {
    throw described(error);
  }
  const rows = parquet.metadata().fileMetadata().numRows();
  return {
    rows,
    schema: parquet.schema().intoIPCStream(),
    batches: (request) => batchesOf(parquet, rows, request),
    close: () => parquet.free(),
  };
};

async function* batchesOf(
  parquet: ParquetFile,
  rows: number,
  { columns, batchRows, rowGroups, range }: ParquetRequest,
): AsyncGenerator<ParquetBatch, void, undefined> {
  try {
    if (rows === 0) {
      yield { rows, stream: (await parquet.read({ columns: [...columns] })).intoIPCStream() };
      return;
    }
    const stream = (await parquet.stream({
      columns: [...columns],
      batchSize: batchRows,
      concurrency: 1,
      ...(rowGroups && { rowGroups: [...rowGroups] }),
      ...range,
    })) as unknown as AsyncIterable<RecordBatch>;
    for await (const batch of stream) {
      const { numRows } = batch;
      yield { rows: numRows, stream: batch.intoIPCStream() };
    }
  } catch (error) {
    throw described(error);
  }
}
