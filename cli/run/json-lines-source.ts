/** JSON Lines: an object a line, streamed. */
import { statSync } from 'node:fs';
import type { FieldJson, TypeJson } from '../../shared/domain/function.ts';
import { CommandError } from '../failure.ts';
import type { RowRequest, RowSource } from './row-source.ts';
import { CHUNK_BYTES_MAX } from './row-streams.ts';
import { type LineBlock, textLines } from './text-file.ts';
import { typedStream } from './typed-rows.ts';

type Row = Readonly<Record<string, unknown>>;

/** Rows whose keys and values say what columns there are and which types the kept ones have. */
const SAMPLE_ROWS = 1000;

type Placed = { readonly row: Row; readonly line: number; readonly characters: number };

function* objects(file: string, { texts, from }: LineBlock): Generator<Placed, void, undefined> {
  for (let i = 0; i < texts.length; i++) {
    const text = texts[i]!;
    if (text.trim() === '') continue;
    yield { row: rowOf(text, () => `${file}, line ${from + i}`), line: from + i, characters: text.length };
  }
}

/** `where` is put into words only when it is needed. */
const rowOf = (text: string, where: () => string): Row => {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new CommandError(
      `${where()}, is not JSON (${error instanceof Error ? error.message : error}); correct or remove it.`,
    );
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Row;
  throw new CommandError(`${where()}, is not an object; each line must be one, such as {"text": "a"}.`);
};

const sample = async (file: string): Promise<Row[]> => {
  const rows: Row[] = [];
  for await (const block of textLines(file))
    for (const { row } of objects(file, block)) if (rows.push(row) === SAMPLE_ROWS) return rows;
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
  const columns = new Set(first.flatMap((row) => Object.keys(row)));
  const read = { bytes: 0 };

  const fieldOf = (name: string, request: RowRequest): FieldJson => {
    const declared = request.types.get(name)?.type;
    const type =
      declared === undefined || declared === 'any' ? sampledType(first.map((row) => row[name])) : declared;
    return { name, type, nullable: true };
  };

  const encoded = (rows: readonly Placed[], fields: readonly FieldJson[]): Promise<Uint8Array> =>
    typedStream(
      fields.map(({ name }) => rows.map(({ row }) => row[name] ?? null)),
      fields,
      async (row) => `${file}, line ${rows[row]!.line}`,
    );

  const checkKnown = ({ row, line }: Placed): void => {
    for (const key in row)
      if (!columns.has(key))
        throw new CommandError(
          `${file}, line ${line}: none of the first ${SAMPLE_ROWS} rows, from which the columns are taken, has the key ${JSON.stringify(key)}; write it into the first row too (null will do), or name the columns that you want with --keep and --column.`,
        );
  };

  async function* rows(request: RowRequest): AsyncGenerator<Uint8Array, void, undefined> {
    const fields = request.columns.map((name) => fieldOf(name, request));
    let [waiting, characters, isEmpty]: [Placed[], number, boolean] = [[], 0, true];
    for await (const block of textLines(file, read))
      for (const next of objects(file, block)) {
        if (request.isWhole) checkKnown(next);
        waiting.push(next);
        characters += next.characters;
        isEmpty = false;
        if (waiting.length < request.rowsMax && characters < CHUNK_BYTES_MAX) continue;
        yield await encoded(waiting, fields);
        [waiting, characters] = [[], 0];
      }
    if (waiting.length > 0 || isEmpty) yield await encoded(waiting, fields);
  }

  return {
    columns: [...columns],
    rowsTotal: null,
    rows,
    readShare: () => (bytesTotal > 0 ? read.bytes / bytesTotal : 0),
  };
};
