/** Plain JavaScript columns to and from Arrow streams, for the SDK and for handlers in JavaScript. */
import type { FieldJson, TypeJson } from '../domain/function.ts';
import { SluiceError } from '../errors/sluice-error.ts';
import { type ArrayData, isValidAt, offsetAt } from './array-node.ts';
import { jsonWithBigInts } from './exact-json.ts';
import { settled } from './exact-values.ts';
import { writeStream } from './json-payload.ts';
import { type ArrowStream, readStreamOnce } from './stream.ts';
import { decimalText } from './time-text.ts';
import { inferField } from './type-inference.ts';
import type { Values } from './value-builder.ts';
import { checkOf, explain } from './value-check.ts';
import { dictionaryEntry, numberReader, wideInt } from './value-text.ts';

export type TypedArray =
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Float32Array
  | Float64Array;

/**
 * Columns as one IPC stream of one batch; types are inferred where `fields` is absent.
 * @param fromJson the values come from JSON, which has no infinities
 * @throws SluiceError `invalid_request` naming column, row and value
 */
export function rowsToStream(
  columns: Readonly<Record<string, readonly unknown[] | TypedArray>>,
  fields?: readonly FieldJson[],
  fromJson = false,
): Uint8Array {
  const used = fields ?? Object.entries(columns).map(([name, values]) => inferField(name, values));
  const values = used.map((field) => checkedColumn(columns, field, fromJson));
  const rows = values[0]?.length ?? 0;
  values.forEach((column, i) => {
    if (column.length !== rows)
      refuse(used[i]!.name, ` has ${column.length} rows, column "${used[0]!.name}" has ${rows}`);
  });
  return writeStream(used, values, rows);
}

const refuse = (name: string, what: string, row?: number): never => {
  throw new SluiceError('invalid_request', `column "${name}"${what}`, { field: name, row });
};

function checkedColumn(
  columns: Readonly<Record<string, Values>>,
  field: FieldJson,
  fromJson: boolean,
): Values {
  const values = Object.hasOwn(columns, field.name) ? columns[field.name] : undefined;
  if (values === undefined) return refuse(field.name, ' is missing');
  const check = checkOf(field, fromJson);
  let exact: unknown[] | null = null;
  for (let row = 0; row < values.length; row++) {
    if (check(values[row])) continue;
    const value = settled(field.type, values[row]);
    if (!check(value)) return refuse(field.name, `, row ${row}: ${explain(field, values[row])}`, row);
    exact ??= Array.from(values);
    exact[row] = value;
  }
  return exact ?? values;
}

/**
 * A stream's values by column: numbers of up to 32 bits and floats without nulls as typed arrays, 64-bit integers as
 * numbers where they are safe and as bigints where not, lists of numbers as typed arrays, timestamps and dates as Date,
 * decimals as strings, `json` columns parsed, their integers beyond 2^53 as bigints.
 */
export function streamToColumns(bytes: Uint8Array): Record<string, unknown[] | TypedArray> {
  const stream = readStreamOnce(bytes);
  const out: Record<string, unknown[] | TypedArray> = {};
  stream.fields.forEach((field, i) => {
    Object.defineProperty(out, field.name, {
      value: columnValues(stream, i),
      enumerable: true,
      writable: true,
      configurable: true,
    });
  });
  return out;
}

function columnValues(stream: ArrowStream, index: number): unknown[] | TypedArray {
  const single = stream.batches.length === 1 ? stream.batches[0]!.columns[index]! : null;
  const typed = single === null ? null : typedValues(single, 0, single.length);
  if (typed !== null) return typed;
  const out: unknown[] = [];
  for (const batch of stream.batches) {
    const read = valueReader(batch.columns[index]!);
    for (let row = 0; row < batch.rows; row++) out.push(read(row));
  }
  return out;
}

const TYPED = {
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  float32: Float32Array,
  float64: Float64Array,
} as const;

/** A copy of the values [start, end) as a typed array; null where there are nulls or the type has none. */
function typedValues(array: ArrayData, start: number, end: number): TypedArray | null {
  const { type } = array.node;
  if (array.validity !== null || typeof type !== 'string' || !Object.hasOwn(TYPED, type)) return null;
  const { width } = array.node.layout;
  const bytes = new Uint8Array((end - start) * width);
  bytes.set(array.values.subarray(start * width, end * width));
  return new TYPED[type as keyof typeof TYPED](bytes.buffer);
}

type ValueAt = (row: number) => unknown;
const readers = new WeakMap<ArrayData, ValueAt>();

function valueReader(array: ArrayData): ValueAt {
  let read = readers.get(array);
  if (read === undefined) {
    const value = plainValue(array);
    const { validity } = array;
    read = validity === null ? value : (row) => (isValidAt(validity, row) ? value(row) : null);
    readers.set(array, read);
  }
  return read;
}

function plainValue(array: ArrayData): ValueAt {
  const { type } = array.node;
  const { values } = array;
  const b = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  if (typeof type !== 'string') return parametricValue(array, type, b);
  const number = numberReader(values, type);
  if (number !== null) return number;
  if (type === 'null') return () => null;
  if (type === 'bool') return (row) => isValidAt(values, row);
  if (type === 'int64') return (row) => safeNumber(b.readBigInt64LE(row * 8));
  if (type === 'uint64') return (row) => safeNumber(b.readBigUInt64LE(row * 8));
  if (type === 'date32') return (row) => new Date(b.readInt32LE(row * 4) * 86_400_000);
  if (type === 'date64') return (row) => new Date(Number(b.readBigInt64LE(row * 8)));
  if (!array.node.layout.text)
    return (row) => new Uint8Array(values.subarray(offsetAt(array, row), offsetAt(array, row + 1)));
  const text = (row: number): string => b.toString('utf8', offsetAt(array, row), offsetAt(array, row + 1));
  return type === 'json' ? (row) => parsed(text(row)) : text;
}

const safeNumber = (value: bigint): number | bigint =>
  BigInt.asIntN(54, value) === value ? Number(value) : value;

/** A json column is text that someone else wrote: what does not parse stays text. */
function parsed(text: string): unknown {
  try {
    return jsonWithBigInts(text);
  } catch {
    return text;
  }
}

const PER_MS = { s: 0.001, ms: 1, us: 1000, ns: 1_000_000 } as const;

function parametricValue(array: ArrayData, type: Exclude<TypeJson, string>, b: Buffer): ValueAt {
  if ('timestamp' in type) {
    const per = PER_MS[type.timestamp];
    return (row) => new Date(Math.floor(Number(b.readBigInt64LE(row * 8)) / per));
  }
  if ('time' in type || 'duration' in type)
    return array.node.layout.width === 4
      ? (row) => b.readInt32LE(row * 4)
      : (row) => safeNumber(b.readBigInt64LE(row * 8));
  if ('decimal' in type) {
    const bytes = type.bits / 8;
    return (row) => decimalText(wideInt(b, row * bytes, bytes), type.decimal[1]);
  }
  if ('fixed_size_binary' in type) {
    const { width } = array.node.layout;
    return (row) => new Uint8Array(array.values.subarray(row * width, (row + 1) * width));
  }
  return nestedValue(array, type);
}

function nestedValue(array: ArrayData, type: Exclude<TypeJson, string>): ValueAt {
  if ('dictionary' in type)
    return (row) => {
      const entry = dictionaryEntry(array, row);
      return entry === null ? null : valueReader(entry.chunk)(entry.row);
    };
  if ('struct' in type)
    return (row) =>
      Object.fromEntries(array.children.map((child) => [child.node.name, valueReader(child)(row)]));
  const child = array.children[0]!;
  if ('fixed_size_list' in type) return (row) => listValue(child, row * type.size, (row + 1) * type.size);
  if ('map' in type) {
    const [key, item] = [valueReader(child.children[0]!), valueReader(child.children[1]!)];
    return (row) => {
      const map = new Map<unknown, unknown>();
      for (let i = offsetAt(array, row); i < offsetAt(array, row + 1); i++) map.set(key(i), item(i));
      return map;
    };
  }
  return (row) => listValue(child, offsetAt(array, row), offsetAt(array, row + 1));
}

function listValue(child: ArrayData, start: number, end: number): unknown[] | TypedArray {
  const typed = typedValues(child, start, end);
  if (typed !== null) return typed;
  const read = valueReader(child);
  return Array.from({ length: end - start }, (_, i) => read(start + i));
}
