/** A file of rows, whatever its format. */
import { access, constants } from 'node:fs/promises';
import path from 'node:path';
import type { FieldJson } from '../../shared/domain/function.ts';
import { UsageError } from '../failure.ts';

export type RowRequest = {
  /** Columns of the file, in this order. */
  readonly columns: readonly string[];
  /** The types that text formats are read as; a column that is not here is kept as it looks. */
  readonly types: ReadonlyMap<string, FieldJson>;
  readonly rowsMax: number;
};

export type RowSource = {
  readonly columns: readonly string[];
  /** null where only reading to the end tells. */
  readonly rowsTotal: number | null;
  /** Arrow streams of at most `rowsMax` rows in the file's order; an empty file gives one of no rows. */
  rows(request: RowRequest): AsyncGenerator<Uint8Array, void, undefined>;
  /** Share of the file that has been read, 0 to 1. */
  readShare(): number;
};

const INPUTS: Readonly<Record<string, () => Promise<(file: string) => Promise<RowSource>>>> = {
  '.parquet': async () => (await import('./parquet-source.ts')).parquetSource,
  '.csv': async () => (await import('./csv-source.ts')).csvSource,
  '.tsv': async () => (await import('./csv-source.ts')).csvSource,
  '.jsonl': async () => (await import('./json-lines-source.ts')).jsonLinesSource,
  '.ndjson': async () => (await import('./json-lines-source.ts')).jsonLinesSource,
  '.arrow': async () => (await import('./arrow-source.ts')).arrowSource,
  '.arrows': async () => (await import('./arrow-source.ts')).arrowSource,
  '.feather': async () => (await import('./arrow-source.ts')).arrowSource,
  '.ipc': async () => (await import('./arrow-source.ts')).arrowSource,
};

export const openSource = async (file: string): Promise<RowSource> => {
  const load = INPUTS[path.extname(file).toLowerCase()];
  if (!load)
    throw new UsageError(
      `--input is ${file}; its name must end in one of ${Object.keys(INPUTS).join(', ')}.`,
    );
  // Says which file is missing or closed, before a library says it in its own words.
  await access(file, constants.R_OK);
  return (await load())(file);
};
