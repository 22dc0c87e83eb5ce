/** JSON Lines: an object a line, streamed. */
import { statSync } from 'node:fs';
import { exactJson, isExactNumber } from '../../shared/arrow/index.ts';
import { ownValue } from '../../shared/arrow/value-check.ts';
import type { FieldJson } from '../../shared/domain/function.ts';
import { CommandError } from '../failure.ts';
import type { RowRequest, RowSource } from './row-source.ts';
import { CHUNK_BYTES_MAX } from './row-streams.ts';
import { refuseRounded, sampledType } from './sampled-type.ts';
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
    value = exactJson(text).value;
  } catch (error) {
    throw new CommandError(
      `${where()}, is not JSON (${error instanceof Error ? error.message : error}); correct or remove it.`,
    );
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value) && !isExactNumber(value))
    return value as Row;
  throw new CommandError(`${where()}, is not an object; each line must be one, such as {"text": "a"}.`);
};

const sample = async (file: string): Promise<Row[]> => {
  const rows: Row[] = [];
  for await (const block of textLines(file))
    for (const { row } of objects(file, block)) if (rows.push(row) === SAMPLE_ROWS) return rows;
  return rows;
};

export const jsonLinesSource = async (file: string): Promise<RowSource> => {
  const bytesTotal = statSync(file).size;
  const first = await sample(file);
  const columns = new Set(first.flatMap((row) => Object.keys(row)));
  const read = { bytes: 0 };

  const fieldOf = (name: string, request: RowRequest): FieldJson => {
    const declared = request.types.get(name)?.type;
    const type =
      declared === undefined || declared === 'any'
        ? sampledType(first.map((row) => ownValue(row, name)))
        : declared;
    return { name, type, nullable: true };
  };

  const encoded = (rows: readonly Placed[], fields: readonly FieldJson[]): Promise<Uint8Array> =>
    typedStream(
      fields.map(({ name }) => rows.map(({ row }) => ownValue(row, name) ?? null)),
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
    const floats = fields.filter(
      ({ name, type }) => type === 'float64' && request.types.get(name)?.type !== type,
    );
    let [waiting, characters, isEmpty]: [Placed[], number, boolean] = [[], 0, true];
    for await (const block of textLines(file, read))
      for (const next of objects(file, block)) {
        if (request.isWhole) checkKnown(next);
        refuseRounded(next.row, floats, () => `${file}, line ${next.line}`);
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
