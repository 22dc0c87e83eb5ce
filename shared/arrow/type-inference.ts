/** The type of a column of plain values where none is declared. The answer depends on kinds of values, not on their sizes, so
 * that calls of one caller keep one schema. */
import type { FieldJson, TypeJson } from '../domain/function.ts';
import { SluiceError } from '../errors/sluice-error.ts';
import { isDoublePrint, isExactNumber, isInt64, isInteger } from './exact-json.ts';
import { COLUMNS_MAX, DEPTH_MAX, NODES_MAX, typeText } from './type-text.ts';
import type { Values } from './value-builder.ts';
import { excerpt, ownValue } from './value-check.ts';

const TYPED: Readonly<Record<string, string>> = {
  Int8Array: 'int8',
  Int16Array: 'int16',
  Int32Array: 'int32',
  BigInt64Array: 'int64',
  Uint8Array: 'uint8',
  Uint8ClampedArray: 'uint8',
  Uint16Array: 'uint16',
  Uint32Array: 'uint32',
  BigUint64Array: 'uint64',
  Float16Array: 'float16',
  Float32Array: 'float32',
  Float64Array: 'float64',
};

export const typedArrayType = (values: unknown): string | undefined =>
  ArrayBuffer.isView(values) ? TYPED[values.constructor.name] : undefined;

/**
 * What inference of one body may make: fields of all levels, and values that no row has. An object that lacks a member costs
 * its sender nothing and us a null in the member's column and in all columns inside of it.
 */
export type Allowance = { fields: number; absent: number };
/** 4 Mi nulls of 8 bytes are 32 MiB, half of what a body may have by default. */
const ABSENT_MAX = 2 ** 22;
export const allowance = (): Allowance => ({ fields: NODES_MAX, absent: ABSENT_MAX });

/** @throws SluiceError `invalid_request` when the values are of mixed kinds, or more than `left` allows */
export function inferField(name: string, values: Values, left: Allowance = allowance()): FieldJson {
  const at = { where: `column "${name}"`, depth: 0, slots: values.length, left };
  return { name, type: typedArrayType(values) ?? inferType(values, at), nullable: true };
}

/** Where in a column values stand; `slots`: rows of the array that they will be in, nulls of outer levels included. */
type Place = {
  readonly where: string;
  readonly depth: number;
  readonly slots: number;
  readonly left: Allowance;
};

/** The names of all members of `objects`, which stand in `slots` rows; those that rows lack are taken from `left`. */
export function memberNames(
  objects: readonly Record<string, unknown>[],
  slots: number,
  where: string,
  left: Allowance,
): readonly string[] {
  const names = new Set<string>();
  let given = 0;
  for (const object of objects)
    for (const name of Object.keys(object)) {
      given++;
      if (names.size <= COLUMNS_MAX) names.add(name);
    }
  left.fields -= names.size;
  if (names.size > COLUMNS_MAX || left.fields < 0)
    throw new SluiceError(
      'invalid_request',
      `${where}: the rows name too many columns; at most ${COLUMNS_MAX} beside each other and ${NODES_MAX} in all are allowed`,
    );
  left.absent -= slots * names.size - given;
  if (left.absent < 0)
    throw new SluiceError(
      'invalid_request',
      `${where}: ${slots} rows of ${names.size} columns have only ${given} values; at most ${ABSENT_MAX} may be absent in all`,
    );
  return [...names];
}

function inferType(values: Values, at: Place): TypeJson {
  const { where, depth } = at;
  if (depth >= DEPTH_MAX)
    throw new SluiceError('invalid_request', `${where}: values nest more than ${DEPTH_MAX} levels deep`);
  let type: TypeJson = 'null';
  const nested: unknown[] = [];
  for (let i = 0; i < values.length; i++) {
    const kind = kindOf(values[i]);
    if (kind === 'too wide')
      throw new SluiceError(
        'invalid_request',
        `${where}, row ${i}: ${excerpt(values[i])} is beyond int64, the widest integer that is inferred; send it as a string, or the columns as Arrow`,
      );
    if (kind === 'list' || kind === 'struct') nested.push(values[i]);
    type = join(
      type,
      kind,
      () => `${where}, row ${i}: ${excerpt(values[i])} among values of ${typeText(type)}`,
    );
  }
  if (type === 'list') return { list: { name: 'item', type: listItem(nested, at), nullable: true } };
  if (type === 'struct') return { struct: members(nested as Record<string, unknown>[], at) };
  return type === 'timestamp' ? { timestamp: 'ms', tz: 'UTC' } : type;
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return 'null';
  if (typeof value === 'string') return 'utf8';
  if (typeof value === 'boolean') return 'bool';
  if (typeof value === 'bigint') return 'int64';
  if (typeof value === 'number') return Number.isSafeInteger(value) ? 'int64' : 'float64';
  if (value instanceof Date) return 'timestamp';
  if (value instanceof Uint8Array) return 'binary';
  if (isExactNumber(value)) return kindOfExact(value.rawJSON);
  return Array.isArray(value) || ArrayBuffer.isView(value) ? 'list' : 'struct';
}

/** What a double prints may be an integer of any size; other integers are ids, which are not rounded. */
function kindOfExact(text: string): string {
  if (!isInteger(text)) return 'float64';
  if (isInt64(text)) return 'int64';
  return isDoublePrint(text) ? 'float64' : 'too wide';
}

function join(a: TypeJson, b: string, mixed: () => string): TypeJson {
  if (a === b || b === 'null') return a;
  if (a === 'null') return b;
  if ((a === 'int64' && b === 'float64') || (a === 'float64' && b === 'int64')) return 'float64';
  throw new SluiceError('invalid_request', `${mixed()}; a column holds one type`);
}

function listItem(lists: readonly unknown[], { where, depth, left }: Place): TypeJson {
  left.fields--;
  const typed = typedArrayType(lists[0]);
  if (typed !== undefined && lists.every((list) => typedArrayType(list) === typed)) return typed;
  const items: unknown[] = [];
  for (const list of lists as readonly Values[]) for (let i = 0; i < list.length; i++) items.push(list[i]);
  return inferType(items, { where: `${where}[]`, depth: depth + 1, slots: items.length, left });
}

function members(objects: readonly Record<string, unknown>[], at: Place): FieldJson[] {
  const { where, depth, slots, left } = at;
  // Sorted, so that the order in which a caller writes members does not split batches.
  const names = [...memberNames(objects, slots, where, left)].sort();
  return names.map((name) => {
    const values = objects.map((object) => ownValue(object, name) ?? null);
    const type = inferType(values, { where: `${where}.${name}`, depth: depth + 1, slots, left });
    return { name, type, nullable: true };
  });
}
