/** The type of a column of plain values where none is declared. The answer depends on kinds of values, not on their sizes, so
 * that calls of one caller keep one schema. */
import type { FieldJson, TypeJson } from '../domain/function.ts';
import { SluiceError } from '../errors/sluice-error.ts';
import { DEPTH_MAX, typeText } from './type-text.ts';
import type { Values } from './value-builder.ts';
import { excerpt } from './value-check.ts';

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

/** @throws SluiceError `invalid_request` when the values are of mixed kinds */
export function inferField(name: string, values: Values): FieldJson {
  const typed = typedArrayType(values);
  return { name, type: typed ?? inferType(values, `column "${name}"`, 0), nullable: true };
}

function inferType(values: Values, where: string, depth: number): TypeJson {
  if (depth > DEPTH_MAX)
    throw new SluiceError('invalid_request', `${where}: values nest more than ${DEPTH_MAX} levels deep`);
  let type: TypeJson = 'null';
  const nested: unknown[] = [];
  for (let i = 0; i < values.length; i++) {
    const kind = kindOf(values[i]);
    if (kind === 'list' || kind === 'struct') nested.push(values[i]);
    type = join(
      type,
      kind,
      () => `${where}, row ${i}: ${excerpt(values[i])} among values of ${typeText(type)}`,
    );
  }
  if (type === 'list')
    return { list: { name: 'item', type: listItem(nested, where, depth), nullable: true } };
  if (type === 'struct') return { struct: members(nested as Record<string, unknown>[], where, depth) };
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
  return Array.isArray(value) || ArrayBuffer.isView(value) ? 'list' : 'struct';
}

function join(a: TypeJson, b: string, mixed: () => string): TypeJson {
  if (a === b || b === 'null') return a;
  if (a === 'null') return b;
  if ((a === 'int64' && b === 'float64') || (a === 'float64' && b === 'int64')) return 'float64';
  throw new SluiceError('invalid_request', `${mixed()}; a column holds one type`);
}

function listItem(lists: readonly unknown[], where: string, depth: number): TypeJson {
  const typed = typedArrayType(lists[0]);
  if (typed !== undefined && lists.every((list) => typedArrayType(list) === typed)) return typed;
  const items: unknown[] = [];
  for (const list of lists as readonly Values[]) for (let i = 0; i < list.length; i++) items.push(list[i]);
  return inferType(items, `${where}[]`, depth + 1);
}

function members(objects: readonly Record<string, unknown>[], where: string, depth: number): FieldJson[] {
  const names = new Set<string>();
  for (const object of objects) for (const name of Object.keys(object)) names.add(name);
  // Sorted, so that the order in which a caller writes members does not split batches.
  return [...names].sort().map((name) => {
    const values = objects.map((object) => (Object.hasOwn(object, name) ? object[name] : null));
    return { name, type: inferType(values, `${where}.${name}`, depth + 1), nullable: true };
  });
}
