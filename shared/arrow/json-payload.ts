/** JSON calls into payloads: checked by type, kept as text while small, Arrow from there on. */
import type { Payload } from '../domain/call.ts';
import type { FieldJson } from '../domain/function.ts';
import { withinStack } from '../errors/nesting.ts';
import { SluiceError } from '../errors/sluice-error.ts';
import { nodesOf } from './array-node.ts';
import { joinBytes } from './batch-sink.ts';
import { settled } from './exact-values.ts';
import { schemaKeyOf } from './input-match.ts';
import { END_OF_STREAM } from './message-frame.ts';
import { schemaMessage } from './schema-message.ts';
import { type Allowance, allowance, inferField, memberNames } from './type-inference.ts';
import { hasAny, typeText } from './type-text.ts';
import { batchOf, type Values } from './value-builder.ts';
import { type Check, checkOf, excerpt, explain, isObject, ownValue } from './value-check.ts';

/** Above this a JSON text costs more to store and to parse again than its Arrow stream costs to make. */
const JSON_TEXT_MAX = 64 * 1024;
/** A call of so many rows is never small: it is not even tried as text. */
const JSON_ROWS_MAX = 4096;

export type JsonBody = { readonly columns?: unknown; readonly rows?: unknown };
export type JsonPayload = {
  readonly rows: number;
  /** Size of the payload as it is stored. */
  readonly bytes: number;
  readonly schemaKey: string;
  readonly payload: Payload;
};

type Compiled = {
  readonly fields: readonly FieldJson[];
  readonly checks: readonly Check[];
  readonly index: ReadonlyMap<string, number>;
  /** A type is "any": rows of different schemas never share a batch, so the text form does not do. */
  readonly open: boolean;
};

const compiled = new WeakMap<readonly FieldJson[], Compiled>();

function compile(inputs: readonly FieldJson[]): Compiled {
  let found = compiled.get(inputs);
  if (found === undefined) {
    found = {
      fields: inputs,
      checks: inputs.map((field) => checkOf(field, true)),
      index: new Map(inputs.map((field, i) => [field.name, i])),
      open: inputs.some((field) => hasAny(field.type)),
    };
    compiled.set(inputs, found);
  }
  return found;
}

const refuse = (detail: string, field: string, row?: number): never => {
  throw new SluiceError('invalid_request', detail, { field, row });
};
const mismatch = (detail: string, field: string, row?: number): never => {
  throw new SluiceError('schema_mismatch', detail, { field, row });
};

/**
 * Checks `{"columns": {name: [value, …]}}` or `{"rows": [{name: value}, …]}` against the inputs and makes the payload.
 * @throws SluiceError `invalid_request` (shape, value) or `schema_mismatch` (columns) naming column, row and value; `invalid_json`
 *   for values that nest too deep
 * @param hasExact the body has numbers of exact-json.ts
 */
export function jsonToPayload(
  body: JsonBody,
  inputs: readonly FieldJson[] | null,
  hasExact = false,
): JsonPayload {
  return withinStack('The body', () => payloadOf(body, inputs, hasExact));
}

function payloadOf(body: JsonBody, inputs: readonly FieldJson[] | null, hasExact: boolean): JsonPayload {
  const { columns, rows } = body;
  if ((columns === undefined) === (rows === undefined))
    return refuse('the body needs either "columns" or "rows"', 'columns');
  if (inputs === null) return inferredPayload(body, hasExact);
  const plan = compile(inputs);
  const values = columns === undefined ? takeRows(plan, rows) : takeColumns(plan, columns);
  const count = values.length === 0 ? bareRows(columns, rows) : values[0]!.length;
  if (plan.open) return openPayload(plan, values, count, hasExact);
  // A text is parsed again where its batch is built, by a parser that rounds.
  if (count <= JSON_ROWS_MAX && !hasExact) {
    const text = JSON.stringify(values);
    if (text.length <= JSON_TEXT_MAX)
      return { rows: count, bytes: Buffer.byteLength(text), schemaKey: '', payload: { kind: 'json', text } };
  }
  return arrowPayload(inputs, values, count, '');
}

/** A function without inputs still has rows. */
const bareRows = (columns: unknown, rows: unknown): number =>
  columns === undefined && Array.isArray(rows) ? rows.length : 0;

function takeColumns(plan: Compiled, columns: unknown): unknown[][] {
  if (!isObject(columns))
    return refuse(`"columns" is ${excerpt(columns)}, expected an object of arrays`, 'columns');
  const { fields, checks } = plan;
  const out = new Array<unknown[]>(fields.length);
  let count = -1;
  let found = 0;
  for (let i = 0; i < fields.length; i++) {
    const { name } = fields[i]!;
    const column = ownValue(columns, name);
    if (column === undefined) continue;
    if (!Array.isArray(column))
      return refuse(`column "${name}" is ${excerpt(column)}, expected an array`, `columns.${name}`);
    found++;
    if (count === -1) count = column.length;
    else if (column.length !== count) raggedColumns(columns);
    const check = checks[i]!;
    for (let row = 0; row < count; row++)
      if (!check(column[row])) column[row] = exactValue(fields[i]!, check, row, column[row]);
    out[i] = column;
  }
  if (found !== Object.keys(columns).length || found < fields.length)
    completeColumns(plan, columns, out, Math.max(count, 0));
  return out;
}

const raggedColumns = (columns: Record<string, unknown>): never => {
  const lengths = Object.entries(columns).map(([name, c]) => `"${name}" ${Array.isArray(c) ? c.length : 0}`);
  return refuse(`the columns differ in length: ${lengths.join(', ')}`, 'columns');
};

/** Names what is unknown or missing; a missing nullable column is all null. */
function completeColumns(
  plan: Compiled,
  columns: Record<string, unknown>,
  out: unknown[][],
  count: number,
): void {
  const unknown = Object.keys(columns).find((name) => !plan.index.has(name));
  if (unknown !== undefined) unknownColumn(plan, unknown);
  plan.fields.forEach((field, i) => {
    if (out[i] !== undefined) return;
    if (!field.nullable) missingColumn(plan, field);
    out[i] = new Array<unknown>(count).fill(null);
  });
}

const expectedText = (plan: Compiled): string =>
  plan.fields.map((f) => `"${f.name}" ${typeText(f.type)}${f.nullable ? '' : ' not null'}`).join(', ') ||
  'none';

const unknownColumn = (plan: Compiled, name: string): never =>
  mismatch(`column "${name}" is no input of the function; its inputs are ${expectedText(plan)}`, name);
const missingColumn = (plan: Compiled, field: FieldJson): never =>
  mismatch(`column "${field.name}" is missing; the inputs are ${expectedText(plan)}`, field.name);

/** What a check has refused, if it is right once its exact numbers are what the type takes. */
function exactValue(field: FieldJson, check: Check, row: number, value: unknown): unknown {
  const exact = settled(field.type, value);
  return check(exact) ? exact : badValue(field, row, value);
}

function badValue(field: FieldJson, row: number, value: unknown): never {
  return refuse(`column "${field.name}", row ${row}: ${explain(field, value)}`, field.name, row);
}

function takeRows(plan: Compiled, rows: unknown): unknown[][] {
  if (!Array.isArray(rows)) return refuse(`"rows" is ${excerpt(rows)}, expected an array of objects`, 'rows');
  const { fields, checks } = plan;
  const out = fields.map(() => new Array<unknown>(rows.length));
  for (let row = 0; row < rows.length; row++) {
    const object: unknown = rows[row];
    if (!isObject(object))
      return refuse(`row ${row} is ${excerpt(object)}, expected an object`, `rows[${row}]`, row);
    let found = 0;
    for (let i = 0; i < fields.length; i++) {
      let value = ownValue(object, fields[i]!.name);
      if (value === undefined) {
        if (!fields[i]!.nullable) missingValue(plan, fields[i]!, row);
        value = null;
      } else found++;
      if (!checks[i]!(value)) value = exactValue(fields[i]!, checks[i]!, row, value);
      out[i]![row] = value;
    }
    if (Object.keys(object).length !== found) unknownMember(plan, object, row);
  }
  return out;
}

const missingValue = (plan: Compiled, field: FieldJson, row: number): never =>
  mismatch(`row ${row} lacks "${field.name}"; the inputs are ${expectedText(plan)}`, field.name, row);

function unknownMember(plan: Compiled, object: Record<string, unknown>, row: number): void {
  const unknown = Object.keys(object).find((name) => !plan.index.has(name));
  if (unknown === undefined) return;
  mismatch(
    `row ${row} has "${unknown}", which is no input of the function; its inputs are ${expectedText(plan)}`,
    unknown,
    row,
  );
}

/** Columns of a function that takes any table. */
function columnsOf(columns: unknown, left: Allowance): Map<string, unknown[]> {
  if (!isObject(columns))
    return refuse(`"columns" is ${excerpt(columns)}, expected an object of arrays`, 'columns');
  memberNames([columns], 1, '"columns"', left);
  const out = new Map<string, unknown[]>();
  let count = -1;
  for (const [name, column] of Object.entries(columns)) {
    if (!Array.isArray(column))
      return refuse(`column "${name}" is ${excerpt(column)}, expected an array`, `columns.${name}`);
    if (count >= 0 && column.length !== count) raggedColumns(columns);
    count = column.length;
    out.set(name, column);
  }
  return out;
}

function rowObjects(rows: unknown): readonly Record<string, unknown>[] {
  if (!Array.isArray(rows)) return refuse(`"rows" is ${excerpt(rows)}, expected an array of objects`, 'rows');
  const bad = rows.findIndex((row) => !isObject(row));
  if (bad >= 0) return refuse(`row ${bad} is ${excerpt(rows[bad])}, expected an object`, `rows[${bad}]`, bad);
  return rows;
}

function inferredPayload({ columns, rows }: JsonBody, hasExact: boolean): JsonPayload {
  const left = allowance();
  if (columns !== undefined) return columnsPayload(columnsOf(columns, left), null, left, hasExact);
  const objects = rowObjects(rows);
  const names = memberNames(objects, objects.length, '"rows"', left);
  const found = names.map((name) => [name, objects.map((row) => ownValue(row, name) ?? null)] as const);
  return columnsPayload(new Map(found), objects.length, left, hasExact);
}

function columnsPayload(
  columns: ReadonlyMap<string, unknown[]>,
  rows: number | null,
  left: Allowance,
  hasExact: boolean,
): JsonPayload {
  const fields = [...columns].map(([name, values]) => inferField(name, values, left));
  const given = [...columns.values()];
  const values = hasExact ? settledColumns(fields, given) : given;
  fields.forEach((field, i) => {
    checkInferred(field, values[i]!);
  });
  return arrowPayload(fields, values, rows ?? values[0]?.length ?? 0, schemaKeyOf(fields));
}

const settledColumns = (fields: readonly FieldJson[], columns: readonly unknown[][]): unknown[][] =>
  columns.map((column, i) => column.map((value) => settled(fields[i]!.type, value)));

/** Inference looks at kinds: a number may be infinite yet, and a text without UTF-8. */
function checkInferred(field: FieldJson, values: readonly unknown[]): void {
  const check = checkOf({ ...field, nullable: true }, true);
  const bad = values.findIndex((value) => !check(value));
  if (bad >= 0) badValue(field, bad, values[bad]);
}

/** Inputs of which some are "any": those are inferred, the others as declared. */
function openPayload(
  plan: Compiled,
  values: readonly unknown[][],
  count: number,
  hasExact: boolean,
): JsonPayload {
  const left = allowance();
  const fields = plan.fields.map((field, i) => {
    if (!hasAny(field.type)) return field;
    return { ...inferField(field.name, values[i]!, left), nullable: field.nullable };
  });
  const exact = hasExact ? settledColumns(fields, values) : values;
  fields.forEach((field, i) => {
    if (field !== plan.fields[i]) checkInferred(field, exact[i]!);
  });
  return arrowPayload(fields, exact, count, schemaKeyOf(fields));
}

function arrowPayload(
  fields: readonly FieldJson[],
  values: readonly Values[],
  rows: number,
  schemaKey: string,
): JsonPayload {
  const bytes = writeStream(fields, values, rows);
  return { rows, bytes: bytes.length, schemaKey, payload: { kind: 'arrow', bytes } };
}

/** Checked columns as one IPC stream of one batch. */
export function writeStream(
  fields: readonly FieldJson[],
  values: readonly Values[],
  rows: number,
): Uint8Array {
  const nodes = nodesOf(fields);
  return joinBytes([schemaMessage(nodes), ...batchOf(nodes, values, rows), END_OF_STREAM]);
}
