/**
 * Which JavaScript values (of JSON, or of the SDK's plain columns) a type takes. A check is a compiled predicate, so that a
 * good value costs nanoseconds; what a bad one lacks is found afterwards by `explain`.
 */
import type { FieldJson, TypeJson } from '../domain/function.ts';
import { isExactNumber, isInteger } from './exact-json.ts';
import { parseDecimal, parseTime, parseTimestamp } from './time-text.ts';
import { typeText } from './type-text.ts';

export type Check = (value: unknown) => boolean;

const always: Check = () => true;
const never: Check = () => false;
const isNumber: Check = (v) => typeof v === 'number';
/** A lone surrogate has no UTF-8: written all the same, it is another character. */
const isText: Check = (v) => typeof v === 'string' && v.isWellFormed();
const isBoolean: Check = (v) => typeof v === 'boolean';
const DIGITS = /^-?\d{1,20}$/;
const BASE64 = /^[A-Za-z0-9+/\-_]*={0,2}$/;

const smallInt =
  (min: number, max: number): Check =>
  (v) =>
    typeof v === 'number' && v >= min && v <= max && Number.isInteger(v);

/** Beyond 2^53 a JSON number has lost digits already: a string of digits is taken instead. */
const bigInt = (min: bigint, max: bigint): Check => {
  const inRange = (v: bigint): boolean => v >= min && v <= max;
  return (v) => {
    if (typeof v === 'number') return Number.isSafeInteger(v) && (v >= 0 || min < 0n);
    if (typeof v === 'bigint') return inRange(v);
    return typeof v === 'string' && DIGITS.test(v) && inRange(BigInt(v));
  };
};

/** Padded, since a plain word is of the same alphabet: most words are not of 4 characters, or 8. */
const isBase64 = (text: string): boolean => text.length % 4 === 0 && BASE64.test(text);
const isBinary: Check = (v) => (typeof v === 'string' ? isBase64(v) : v instanceof Uint8Array);
const isDate: Check = (v) =>
  typeof v === 'string'
    ? v.length <= 13 && parseTimestamp(v, 's') !== null
    : v instanceof Date
      ? !Number.isNaN(v.getTime())
      : int32(v);
const int32 = smallInt(-(2 ** 31), 2 ** 31 - 1);
const int64 = bigInt(-(2n ** 63n), 2n ** 63n - 1n);

const PLAIN: Readonly<Record<string, Check>> = {
  null: (v) => v === null || v === undefined,
  bool: isBoolean,
  int8: smallInt(-128, 127),
  int16: smallInt(-32768, 32767),
  int32,
  int64,
  uint8: smallInt(0, 255),
  uint16: smallInt(0, 65535),
  uint32: smallInt(0, 2 ** 32 - 1),
  uint64: bigInt(0n, 2n ** 64n - 1n),
  float16: isNumber,
  float32: isNumber,
  float64: isNumber,
  utf8: isText,
  large_utf8: isText,
  binary: isBinary,
  large_binary: isBinary,
  date32: isDate,
  date64: (v) => (typeof v === 'number' ? Number.isSafeInteger(v) : isDate(v)),
  json: always,
  any: always,
};

/** JSON has no infinities: 1e999 is a mistake, and so is what overflows a narrower float. */
const isFiniteIn =
  (max: number): Check =>
  (v) =>
    typeof v === 'number' && v > -max && v < max;

/** Levels of a value in a json column: Python's reader recurses over them and gives up at about 1,000. */
const JSON_DEPTH_MAX = 256;

/** Why readers of JSON fail on the value, or take another one for it; null where they do not. */
export function jsonMisfit(value: unknown, depth = 0): string | null {
  if (typeof value === 'string') return value.isWellFormed() ? null : 'text without lone surrogates';
  if (typeof value === 'number') return Number.isFinite(value) ? null : 'numbers that a double holds';
  if (typeof value !== 'object' || value === null) return null;
  if (depth === JSON_DEPTH_MAX) return `at most ${JSON_DEPTH_MAX} levels`;
  return Array.isArray(value) ? itemMisfit(value, depth) : memberMisfit(value as JsonObject, depth);
}

type JsonObject = Readonly<Record<string, unknown>>;

function itemMisfit(items: readonly unknown[], depth: number): string | null {
  for (let i = 0; i < items.length; i++) {
    const misfit = jsonMisfit(items[i], depth + 1);
    if (misfit !== null) return misfit;
  }
  return null;
}

/** `for in` takes half the time of Object.entries; what JSON made inherits nothing that it would see. */
function memberMisfit(object: JsonObject, depth: number): string | null {
  for (const name in object) {
    if (name === 'rawJSON' && isExactNumber(object))
      return isInteger(object.rawJSON) ? null : jsonMisfit(Number(object.rawJSON));
    const misfit = jsonMisfit(name) ?? jsonMisfit(object[name], depth + 1);
    if (misfit !== null) return misfit;
  }
  return null;
}

/** What is stricter for values that come from JSON. */
const OF_JSON: Readonly<Record<string, Check>> = {
  float16: isFiniteIn(65_520),
  float32: isFiniteIn(2 ** 128 - 2 ** 103),
  float64: isFiniteIn(Infinity),
  json: (v) => jsonMisfit(v) === null,
};

/** The predicate of a field's values, nulls included where it is nullable; `fromJson`: the values come from JSON. */
export function checkOf(field: FieldJson, fromJson = false): Check {
  const check = typeCheck(field.type, fromJson);
  // Any JSON value includes null: a column that is not nullable holds the text `null` then.
  if (!field.nullable) return check;
  return (v) => v === null || v === undefined || check(v);
}

function typeCheck(type: TypeJson, fromJson: boolean): Check {
  if (typeof type === 'string') return (fromJson ? OF_JSON[type] : undefined) ?? PLAIN[type] ?? never;
  if ('list' in type) return listCheck(type.list, null, fromJson);
  if ('large_list' in type) return listCheck(type.large_list, null, fromJson);
  if ('fixed_size_list' in type) return listCheck(type.fixed_size_list, type.size, fromJson);
  if ('struct' in type) return structCheck(type.struct, fromJson);
  if ('map' in type) return mapCheck(type.map[0], type.map[1], fromJson);
  if ('dictionary' in type) return typeCheck(type.dictionary, fromJson);
  if ('timestamp' in type) {
    const unit = type.timestamp;
    return (v) => (typeof v === 'string' ? timestampFits(v, unit) : isInstant(v));
  }
  if ('time' in type) {
    const unit = type.time;
    const integer = unit === 's' || unit === 'ms' ? int32 : int64;
    return (v) => (typeof v === 'string' ? parseTime(v, unit) !== null : integer(v));
  }
  if ('duration' in type) return int64;
  if ('decimal' in type) {
    const [precision, scale] = type.decimal;
    return (v) => isDecimalSource(v) && parseDecimal(String(v), precision, scale) !== null;
  }
  const size = type.fixed_size_binary;
  return (v) =>
    isBinary(v) &&
    (typeof v === 'string' ? Buffer.from(v, 'base64').length : (v as Uint8Array).length) === size;
}

const isInstant: Check = (v) => (v instanceof Date ? !Number.isNaN(v.getTime()) : int64(v));
const isDecimalSource: Check = (v) => typeof v === 'string' || typeof v === 'bigint' || Number.isFinite(v);

function timestampFits(text: string, unit: 's' | 'ms' | 'us' | 'ns'): boolean {
  const value = parseTimestamp(text, unit);
  return value !== null && value >= -(2n ** 63n) && value < 2n ** 63n;
}

const isTyped = (v: unknown): v is ArrayLike<unknown> => ArrayBuffer.isView(v) && !(v instanceof DataView);
const isNumeric = (field: FieldJson): boolean => field.type === 'float64' || field.type === 'float32';

function listCheck(item: FieldJson, size: number | null, fromJson: boolean): Check {
  const check = checkOf(item, fromJson);
  const typedFits = isNumeric(item);
  return (v) => {
    const typed = !Array.isArray(v);
    if (typed && !isTyped(v)) return false;
    const values = v as ArrayLike<unknown>;
    if (size !== null && values.length !== size) return false;
    if (typed && typedFits && typeof values[0] === 'number') return true;
    for (let i = 0; i < values.length; i++) if (!check(values[i])) return false;
    return true;
  };
}

export const isObject = (v: unknown): v is Record<string, unknown> =>
  typeof v === 'object' &&
  v !== null &&
  !Array.isArray(v) &&
  !ArrayBuffer.isView(v) &&
  !(v instanceof Date) &&
  !isExactNumber(v);

function structCheck(fields: readonly FieldJson[], fromJson: boolean): Check {
  const checks = fields.map((field) => ({ name: field.name, check: checkOf(field, fromJson) }));
  const names = new Set(fields.map((field) => field.name));
  return (v) => {
    if (!isObject(v)) return false;
    for (const { name, check } of checks) if (!check(ownValue(v, name))) return false;
    for (const name of Object.keys(v)) if (!names.has(name)) return false;
    return true;
  };
}

/** A member of its own, so that a field may be called `constructor`. */
export const ownValue = (object: Record<string, unknown>, name: string): unknown =>
  Object.hasOwn(object, name) ? object[name] : undefined;

/** A map's pairs from a Map, a list of pairs, or an object; null when the value is none of these. */
export function mapPairs(value: unknown): readonly (readonly [unknown, unknown])[] | null {
  if (value instanceof Map) return [...value];
  if (Array.isArray(value))
    return value.every((pair) => Array.isArray(pair) && pair.length === 2) ? value : null;
  return isObject(value) ? Object.entries(value) : null;
}

function mapCheck(key: FieldJson, item: FieldJson, fromJson: boolean): Check {
  const checkKey = checkOf({ ...key, nullable: false }, fromJson);
  const checkItem = checkOf(item, fromJson);
  return (v) => mapPairs(v)?.every(([k, x]) => checkKey(k) && checkItem(x)) ?? false;
}

/** Why `value` fails the field's check: the path inside of it, what is there, what is expected. */
export function explain(field: FieldJson, value: unknown): string {
  return explainAt(field, value, '');
}

function explainAt(field: FieldJson, value: unknown, path: string): string {
  const deeper = explainNested(field.type, value, path);
  if (deeper !== null) return deeper;
  const missing = value === null || value === undefined;
  const expected = typeof field.type === 'string' ? plainHint(field.type, value) : hintOf(field.type);
  const hint = missing ? 'the column is not nullable' : (expected ?? '');
  const at = path === '' ? '' : `${path} `;
  return `${at}is ${excerpt(value)}, expected ${typeText(field.type)}${hint === '' ? '' : ` (${hint})`}`;
}

const BASE64_HINT = 'base64, padded with =';

const HINTS: Readonly<Record<string, string>> = {
  int64: 'an integer; beyond ±2^53 a string of digits',
  uint64: 'a non-negative integer; beyond 2^53 a string of digits',
  binary: BASE64_HINT,
  large_binary: BASE64_HINT,
  date32: 'YYYY-MM-DD',
  date64: 'YYYY-MM-DD, or milliseconds since 1970',
};

const plainHint = (type: string, value: unknown): string | null | undefined => {
  if (type === 'json') return jsonMisfit(value);
  return typeof value === 'string' && !value.isWellFormed() ? jsonMisfit(value) : HINTS[type];
};

function hintOf(type: Exclude<TypeJson, string>): string {
  if ('timestamp' in type) return `ISO 8601, or an integer in ${type.timestamp} since 1970`;
  if ('time' in type) return `HH:MM:SS, or an integer in ${type.time}`;
  if ('duration' in type) return `an integer in ${type.duration}`;
  if ('decimal' in type) return 'a string of digits that fits without loss';
  if ('fixed_size_binary' in type) return `base64 of ${type.fixed_size_binary} bytes`;
  if ('map' in type) return 'an object, or a list of [key, value]';
  return '';
}

function explainNested(type: TypeJson, value: unknown, path: string): string | null {
  if (typeof type === 'string' || value === null || value === undefined) return null;
  const item = 'list' in type ? type.list : 'large_list' in type ? type.large_list : fixedItem(type);
  if (item !== null && Array.isArray(value)) {
    if ('fixed_size_list' in type && value.length !== type.size) return null;
    const check = checkOf(item, true);
    const bad = value.findIndex((x) => !check(x));
    return bad < 0 ? null : explainAt(item, value[bad], `${path}[${bad}]`);
  }
  if (!('struct' in type) || !isObject(value)) return null;
  const unknown = Object.keys(value).find((name) => type.struct.every((f) => f.name !== name));
  if (unknown !== undefined)
    return `${path} has the member "${unknown}", which ${typeText(type)} lacks`.trimStart();
  const bad = type.struct.find((f) => !checkOf(f, true)(ownValue(value, f.name)));
  return bad === undefined ? null : explainAt(bad, ownValue(value, bad.name), `${path}.${bad.name}`);
}

const fixedItem = (type: Exclude<TypeJson, string>): FieldJson | null =>
  'fixed_size_list' in type ? type.fixed_size_list : null;

/** A value as a short text for an error. */
export function excerpt(value: unknown): string {
  if (value === undefined) return 'missing';
  const text =
    typeof value === 'bigint' || typeof value === 'number'
      ? `${value}`
      : (JSON.stringify(value) ?? String(value));
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}
