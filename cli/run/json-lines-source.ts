/** JSON Lines: an object a line, streamed. */
import { createReadStream, type ReadStream, statSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { rowsToStream } from '../../shared/arrow/index.ts';
import type { FieldJson, TypeJson } from '../../shared/domain/function.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { CommandError } from '../failure.ts';
import type { RowRequest, RowSource } from './row-source.ts';
import { CHUNK_BYTES_MAX } from './row-streams.ts';

type Row = Readonly<Record<string, unknown>>;

/** Rows whose keys and values say what columns there are and which types the kept ones have. */
const SAMPLE_ROWS = 1000;

async function* objects(file: string, stream: ReadStream): AsyncGenerator<{ row: Row; characters: number }> {
  let line = 0;
  for await (const text of createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY })) {
    line++;
    if (text.trim() === '') continue;
    yield { row: rowOf(text, `${file}, line ${line}`), characters: text.length };
  }
}

const rowOf = (text: string, where: string): Row => {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new CommandError(
      `${where}, is not JSON (${error instanceof Error ? error.message : error}); correct or remove it.`,
    );
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Row;
  throw new CommandError(`${where}, is not an object; each line must be one, such as {"text": "a"}.`);
};

const sample = async (file: string): Promise<Row[]> => {
  const stream = createReadStream(file);
  const rows: Row[] = [];
  for await (const { row } of objects(file, stream)) {
    rows.push(row);
    if (rows.length === SAMPLE_ROWS) break;
  }
  stream.destroy();
  return rows;
};

/** The narrowest of bool, int64, float64, utf8 that the sample fits, else json. */
export const sampledType = (values: readonly unknown[]): TypeJson => {
  const given = values.filter((value) => value !== null && value !== undefined);
  if (given.length === 0) return 'json';
  if (given.every((value) => typeof value === 'boolean')) return 'bool';
  if (given.every((value) => typeof value === 'string')) return 'utf8';
  if (given.every((value) => Number.isSafeInteger(value))) return 'int64';
  return given.every((value) => typeof value === 'number') ? 'float64' : 'json';
};

export const jsonLinesSource = async (file: string): Promise<RowSource> => {
  const bytesTotal = statSync(file).size;
  const first = await sample(file);
  let stream: ReadStream | null = null;

  const fieldOf = (name: string, request: RowRequest): FieldJson => {
    const declared = request.types.get(name)?.type;
    const type =
      declared === undefined || declared === 'any' ? sampledType(first.map((row) => row[name])) : declared;
    return { name, type, nullable: true };
  };

  const encoded = (rows: readonly Row[], fields: readonly FieldJson[], from: number): Uint8Array => {
    try {
      return rowsToStream(
        Object.fromEntries(fields.map(({ name }) => [name, rows.map((row) => row[name] ?? null)])),
        fields,
      );
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
      throw new CommandError(
        `${file}, in the rows from ${from} on: ${error.message}; correct it, or leave the column out with --keep.`,
      );
    }
  };

  async function* rows(request: RowRequest): AsyncGenerator<Uint8Array, void, undefined> {
    stream = createReadStream(file, { highWaterMark: 1024 * 1024 });
    const fields = request.columns.map((name) => fieldOf(name, request));
    let [waiting, characters, from]: [Row[], number, number] = [[], 0, 0];
    for await (const next of objects(file, stream)) {
      waiting.push(next.row);
      characters += next.characters;
      if (waiting.length < request.rowsMax && characters < CHUNK_BYTES_MAX) continue;
      yield encoded(waiting, fields, from);
      from += waiting.length;
      [waiting, characters] = [[], 0];
    }
    if (waiting.length > 0 || from === 0) yield encoded(waiting, fields, from);
  }

  return {
    columns: [...new Set(first.flatMap((row) => Object.keys(row)))],
    rowsTotal: null,
    rows,
    readShare: () => (stream && bytesTotal > 0 ? stream.bytesRead / bytesTotal : 0),
  };
};
