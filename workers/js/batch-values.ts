/** Arrow streams as JavaScript values and back, at the edge of a Node handler. */
import { openStream, rowsToStream, streamToColumns } from '../../shared/arrow/index.ts';
import type { FieldJson } from '../../shared/domain/function.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';

export type Columns = Record<string, unknown[]>;

/** Plain arrays: a typed array's `map` would squeeze what a handler makes of its values into numbers. */
const plainColumns = (bytes: Uint8Array, inputs: readonly FieldJson[]): Columns => {
  const columns: Columns = {};
  const texts = new Set(
    openStream(bytes)
      .fields.filter(({ type }) => type !== 'json')
      .map(({ name }) => name),
  );
  const json = new Set(inputs.filter(({ type }) => type === 'json').map(({ name }) => name));
  for (const [name, values] of Object.entries(streamToColumns(bytes))) {
    const plain = Array.isArray(values) ? values : Array.from<unknown>(values);
    // A json input may come as a plain text column, which nobody has parsed.
    columns[name] = json.has(name) && texts.has(name) ? plain.map(parsed) : plain;
  }
  return columns;
};

const parsed = (value: unknown): unknown => (typeof value === 'string' ? JSON.parse(value) : value);

/** `parts`: byte lengths of the streams that lie one behind the other in `body`. */
export const decodeBatch = (
  body: Uint8Array,
  parts: readonly number[],
  inputs: readonly FieldJson[] | null,
): Columns => {
  let columns: Columns = {};
  let at = 0;
  parts.forEach((bytes, part) => {
    const next = plainColumns(body.subarray(at, at + bytes), inputs ?? []);
    at += bytes;
    if (part === 0) columns = next;
    else for (const name of Object.keys(columns)) columns[name] = columns[name]!.concat(next[name] ?? []);
  });
  return columns;
};

/** What the handler returned is not what the function declares. */
export class OutputError extends Error {}

/** One column `result`; rows in `refused` are null in it. */
export const encodeOutput = (
  values: ArrayLike<unknown>,
  output: Pick<FieldJson, 'type' | 'nullable'>,
  refused: ReadonlySet<number>,
): Uint8Array => {
  const field = { name: 'result', type: output.type, nullable: output.nullable || refused.size > 0 };
  try {
    return rowsToStream({ result: values as unknown[] }, [field]);
  } catch (error) {
    if (error instanceof SluiceError) throw new OutputError(`the handler's answer: ${error.message}`);
    throw error;
  }
};
