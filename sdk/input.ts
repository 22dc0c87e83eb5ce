/** What callers hand over as rows, made into the columns or the Arrow stream that a call carries. */
import * as arrow from '@uwdata/flechette';
import { isExactNumber } from '../shared/arrow/exact-json.ts';
import { ownValue } from '../shared/arrow/value-check.ts';
import type { FieldJson } from '../shared/domain/function.ts';
import { SluiceError } from '../shared/errors/sluice-error.ts';
import type { ApacheTable } from './apache-table.ts';
import type { ArrowRows } from './arrow-rows.ts';
import type { NullsOf } from './open-rows.ts';

export type Row = Readonly<Record<string, unknown>>;
export type Columns = Readonly<Record<string, ArrayLike<unknown>>>;

/**
 * Rows (`[{ text: 'a' }]`), values of a function's only input (`['a', 'b']`), columns (`{ text: ['a', 'b'] }`), a table
 * of apache-arrow or flechette, or the bytes of an Arrow IPC stream.
 */
export type CallInput = readonly unknown[] | Columns | arrow.Table | ApacheTable | Uint8Array | ArrayBuffer;

/** A normal form: named columns of plain values, rows of Arrow arrays, or a stream that is not looked into. */
export type Batch =
  | { readonly kind: 'columns'; readonly columns: Columns; readonly rows: number }
  | ({ readonly kind: 'arrow' } & ArrowRows)
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array; readonly rows: null };

/** A batch that can be counted and cut. */
export type CountedBatch = Exclude<Batch, { kind: 'bytes' }>;

/** The declared inputs of the function; asked for only where the input does not say it. null: any columns. */
export type FieldsSource = () => Promise<readonly FieldJson[] | null>;

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' &&
  value !== null &&
  !Array.isArray(value) &&
  !ArrayBuffer.isView(value) &&
  !isExactNumber(value);

const isTable = (value: object): boolean =>
  'schema' in value && 'numRows' in value && typeof value.numRows === 'number';
const isApache = (value: object): value is ApacheTable => 'batches' in value && isTable(value);
const isFlechette = (value: object): value is arrow.Table => 'children' in value && isTable(value);

const wrong = (detail: string): SluiceError => new SluiceError('invalid_request', detail, { field: 'rows' });

export const toBatch = async (input: CallInput, fields: FieldsSource): Promise<Batch> => {
  if (input instanceof Uint8Array) return { kind: 'bytes', bytes: input, rows: null };
  if (input instanceof ArrayBuffer) return { kind: 'bytes', bytes: new Uint8Array(input), rows: null };
  if (Array.isArray(input)) return rowsToColumns(input, fields);
  if (!isRecord(input))
    throw wrong(`The rows are ${typeof input}; give an array of rows, columns by name, or an Arrow table.`);
  if (isApache(input)) return apacheBatch(input);
  if (isFlechette(input)) return { kind: 'bytes', bytes: tableBytes(input), rows: null };
  return checkedColumns(input as Columns);
};

const apacheBatch = async (table: ApacheTable): Promise<Batch> => {
  const { apacheRows } = await import('./apache-table.ts');
  const source = apacheRows(table);
  return { kind: 'arrow', source, from: 0, rows: source.rows };
};

const checkedColumns = (columns: Columns): Batch => {
  let rows: number | null = null;
  let first = '';
  for (const [name, values] of Object.entries(columns)) {
    if (!Array.isArray(values) && !ArrayBuffer.isView(values))
      throw wrong(
        `Column "${name}" is ${typeof values}; give an array of its values, or rows as [{ ${JSON.stringify(name)}: … }].`,
      );
    if (rows !== null && values.length !== rows)
      throw wrong(
        `Column "${name}" has ${values.length} values, "${first}" has ${rows}; they must be alike.`,
      );
    if (rows === null) [rows, first] = [values.length, name];
  }
  return { kind: 'columns', columns, rows: rows ?? 0 };
};

const rowsToColumns = async (rows: readonly unknown[], fields: FieldsSource): Promise<Batch> => {
  if (rows.length === 0) {
    const names = (await fields())?.map((field) => field.name) ?? [];
    return { kind: 'columns', columns: Object.fromEntries(names.map((name) => [name, []])), rows: 0 };
  }
  const names = isRecord(rows[0]) ? namesOf(rows as readonly Row[]) : null;
  if (names === null)
    return { kind: 'columns', columns: { [await onlyInput(fields)]: rows }, rows: rows.length };
  const columns = Object.fromEntries(names.map((name) => [name, new Array<unknown>(rows.length)]));
  rows.forEach((row, i) => {
    if (!isRecord(row)) throw wrong(`Row ${i} is not an object of inputs by name, as row 0 is.`);
    for (const name of names) columns[name]![i] = ownValue(row, name) ?? null;
  });
  return { kind: 'columns', columns, rows: rows.length };
};

const namesOf = (rows: readonly Row[]): string[] => {
  const names = new Set<string>();
  for (const row of rows) for (const name in row) names.add(name);
  return [...names];
};

const onlyInput = async (fields: FieldsSource): Promise<string> => {
  const declared = await fields();
  if (declared?.length === 1) return declared[0]!.name;
  throw wrong(
    `Bare values need a function with one input; this one has ${declared?.map((f) => f.name).join(', ') || 'any columns'}. ` +
      'Give rows as objects.',
  );
};

/** Rows at most that go as JSON: the server builds columns from small JSON faster than it opens an Arrow stream. */
const JSON_ROWS_MAX = 64;
/** Characters of one text at most in JSON. */
const JSON_TEXT_MAX = 16_384;

const isJsonSafe = (value: unknown): boolean => {
  if (value === null || typeof value === 'boolean') return true;
  if (typeof value === 'string') return value.length <= JSON_TEXT_MAX;
  // JSON.stringify writes −0 as 0.
  return typeof value === 'number' && Number.isFinite(value) && !Object.is(value, -0);
};

const isSmall = (columns: Columns, rows: number): boolean =>
  rows <= JSON_ROWS_MAX &&
  Object.values(columns).every((values) => Array.isArray(values) && values.every(isJsonSafe));

const jsonValue = (_key: string, value: unknown): unknown =>
  ArrayBuffer.isView(value) ? Array.from(value as unknown as ArrayLike<unknown>) : value;

export type EncodedBatch = { readonly isArrow: boolean; readonly body: string | Uint8Array };

/** The request body of a batch: JSON columns when they are few and plain, else an Arrow IPC stream. */
export const encodeBatch = async (batch: Batch, fields: FieldsSource): Promise<EncodedBatch> => {
  if (batch.kind === 'bytes') return { isArrow: true, body: batch.bytes };
  if (batch.kind === 'arrow') {
    const { sliceStream } = await import('../shared/arrow/stream-slice.ts');
    return { isArrow: true, body: sliceStream(batch.source, batch.from, batch.rows) };
  }
  if (isSmall(batch.columns, batch.rows) || !hasBuffer())
    return { isArrow: false, body: JSON.stringify({ columns: batch.columns }, jsonValue) };
  return { isArrow: true, body: await columnsBytes(batch.columns, await fields()) };
};

/** Node, Bun and Deno; shared/arrow writes and checks columns with it. */
const hasBuffer = (): boolean => 'Buffer' in globalThis;

/**
 * Columns in the declared types, each value checked; in the types that the values show where none are declared.
 * @throws SluiceError `invalid_request` naming column, row and value
 */
const columnsBytes = async (columns: Columns, fields: readonly FieldJson[] | null): Promise<Uint8Array> => {
  const { rowsToStream } = await import('../shared/arrow/index.ts');
  const isDeclared = fields?.every(({ type }) => type !== 'any') ?? false;
  const plain = columns as Parameters<typeof rowsToStream>[0];
  return isDeclared ? rowsToStream(plain, fields ?? []) : rowsToStream(plain);
};

export const tableBytes = (table: arrow.Table): Uint8Array => {
  const bytes = arrow.tableToIPC(table, { format: 'stream' });
  if (bytes === null)
    throw new SluiceError('invalid_arrow', 'The table could not be written as an Arrow stream.');
  return bytes;
};

/** A batch that can be counted and cut. @throws SluiceError `invalid_arrow` for bytes that are no Arrow stream */
export const countedBatch = async (batch: Batch): Promise<CountedBatch> => {
  if (batch.kind !== 'bytes') return batch;
  const { streamRows } = await import('./arrow-rows.ts');
  return { kind: 'arrow', ...streamRows(batch.bytes) };
};

/** Rows `from` to `to` (exclusive) of a batch; arrays of values are copied by slice, Arrow is cut when it is encoded. */
export const sliceBatch = (batch: CountedBatch, from: number, to: number): CountedBatch =>
  batch.kind === 'columns'
    ? columnsBatch(batch.columns, to - from, (values) => (values as unknown[]).slice(from, to))
    : { ...batch, from: batch.from + from, rows: to - from };

/** The rows with these numbers, which ascend. */
export const pickRows = async (batch: CountedBatch, rows: readonly number[]): Promise<CountedBatch> => {
  if (batch.kind === 'columns')
    return columnsBatch(batch.columns, rows.length, (values) => rows.map((row) => values[row]));
  const { pickedRows } = await import('./arrow-rows.ts');
  return { kind: 'arrow', ...pickedRows(batch, rows) };
};

const columnsBatch = (
  columns: Columns,
  rows: number,
  cut: (values: ArrayLike<unknown>) => ArrayLike<unknown>,
): CountedBatch => ({
  kind: 'columns',
  columns: Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, cut(values)])),
  rows,
});

/** Which rows are null in a column. */
export const nullsOf = async (batch: CountedBatch): Promise<NullsOf> => {
  if (batch.kind === 'columns') return (column) => (at) => batch.columns[column]?.[at] == null;
  const { nullRows } = await import('./arrow-rows.ts');
  return (column) => {
    const nulls = nullRows(batch, column);
    return (at) => nulls.has(at);
  };
};
