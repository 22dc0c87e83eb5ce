/** Exact numbers of JSON (exact-json.ts) as the values that a type takes. */
import type { FieldJson, TypeJson } from '../domain/function.ts';
import { type ExactNumbers, isExactNumber, isInteger, wideInteger } from './exact-json.ts';
import { isObject, mapPairs } from './value-check.ts';

type Parametric = Exclude<TypeJson, string>;

const itemOf = (type: Parametric): FieldJson | null => {
  if ('list' in type) return type.list;
  if ('large_list' in type) return type.large_list;
  return 'fixed_size_list' in type ? type.fixed_size_list : null;
};

const isWideInteger = (type: TypeJson): boolean =>
  typeof type === 'string'
    ? type === 'int64' || type === 'uint64'
    : 'timestamp' in type || 'time' in type || 'duration' in type;

const ofText = (type: TypeJson, text: string): unknown => {
  if (isWideInteger(type) && isInteger(text)) return wideInteger(text) ?? undefined;
  if (typeof type === 'string') return type.startsWith('float') ? Number(text) : undefined;
  return 'decimal' in type ? text : undefined;
};

/**
 * The value with its exact numbers as the type takes them: 64-bit integers as bigint, decimals as text, floats as the nearest
 * double, json as they are. One that fits nowhere stays, and is refused with all of its digits.
 */
export function settled(type: TypeJson, value: unknown): unknown {
  if (typeof type !== 'string' && 'dictionary' in type) return settled(type.dictionary, value);
  if (isExactNumber(value)) return ofText(type, value.rawJSON) ?? value;
  if (typeof type === 'string' || typeof value !== 'object' || value === null) return value;
  const item = itemOf(type);
  if (item !== null) return Array.isArray(value) ? value.map((one) => settled(item.type, one)) : value;
  if ('map' in type)
    return mapPairs(value)?.map((pair) => type.map.map((side, i) => settled(side.type, pair[i]))) ?? value;
  if (!('struct' in type) || !isObject(value)) return value;
  const types = new Map(type.struct.map((field) => [field.name, field.type]));
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [name, settled(types.get(name) ?? 'json', member)]),
  );
}

const wanted = new WeakMap<readonly FieldJson[], ExactNumbers>();

/** Which numbers of a body make a difference to these inputs; floats take the double. null: any columns. */
export function exactNumbersFor(inputs: readonly FieldJson[] | null): ExactNumbers {
  if (inputs === null) return 'integers';
  let found = wanted.get(inputs);
  if (found === undefined) {
    const each = inputs.map(({ type }) => numbersOf(type));
    found = each.includes('all') ? 'all' : each.includes('integers') ? 'integers' : 'none';
    wanted.set(inputs, found);
  }
  return found;
}

function numbersOf(type: TypeJson): ExactNumbers {
  if (type === 'json') return 'all';
  if (type === 'any' || isWideInteger(type)) return 'integers';
  if (typeof type === 'string') return 'none';
  if ('decimal' in type) return 'all';
  if ('dictionary' in type) return numbersOf(type.dictionary);
  const item = itemOf(type);
  const below = item !== null ? [item] : 'struct' in type ? type.struct : 'map' in type ? type.map : [];
  return exactNumbersFor(below);
}
