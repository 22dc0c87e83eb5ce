/** A file of rows, whatever its format. */
import { access, constants, stat } from 'node:fs/promises';
import path from 'node:path';
import type { FieldJson } from '../../shared/domain/function.ts';
import { CommandError, UsageError } from '../failure.ts';

export type RowRequest = {
  /** Columns of the file, in this order. */
  readonly columns: readonly string[];
  /** The types that text formats are read as; a column that is not here is kept as it looks. */
  readonly types: ReadonlyMap<string, FieldJson>;
  readonly rowsMax: number;
  /** All columns are wanted: a later row with another one is an error, where rows may have keys of their own. */
  readonly isWhole: boolean;
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

/** Ways on for names that people try. */
const WAY_ON: Readonly<Record<string, string>> = {
  '': 'standard input is not read, write it to a file first',
  '.json': 'write an object a line (`jq -c ".[]" a.json > a.jsonl`)',
  '.gz': 'unpack it first (gunzip)',
  '.zst': 'unpack it first (unzstd)',
  '.zip': 'unpack it first (unzip)',
};

const formatOf = (file: string): (() => Promise<(file: string) => Promise<RowSource>>) => {
  const ending = path.extname(file).toLowerCase();
  const load = INPUTS[ending];
  if (load) return load;
  const wayOn = WAY_ON[ending] === undefined ? '' : `; ${WAY_ON[ending]}`;
  throw new UsageError(
    `--input is ${file}; its name must end in one of ${Object.keys(INPUTS).join(', ')}${wayOn}.`,
  );
};

/** Sources open a file more than once, so that a pipe would wait for ever. */
const checkRegular = async (file: string): Promise<void> => {
  const stats = await stat(file);
  if (stats.isDirectory())
    throw new UsageError(`--input ${file} is a directory; give one file, and run each file of a directory.`);
  if (!stats.isFile())
    throw new UsageError(
      `--input ${file} is a pipe or a device, which cannot be read twice; write it to a file first.`,
    );
  // Says which file is closed, before a library says it in its own words.
  await access(file, constants.R_OK);
};

export const openSource = async (file: string): Promise<RowSource> => {
  const load = formatOf(file);
  await checkRegular(file);
  const source = await (await load())(file);
  // A call carries columns; JSON Lines have them with their first row.
  if (source.columns.length === 0)
    throw new CommandError(`${file} has no columns; write it with those that the function takes.`);
  const twice = source.columns.find((name, i) => source.columns.indexOf(name) !== i);
  if (twice !== undefined)
    throw new CommandError(
      `${file} has the column ${JSON.stringify(twice)} twice; give each column a name of its own.`,
    );
  return source;
};
