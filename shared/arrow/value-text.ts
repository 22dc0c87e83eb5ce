/** Arrays as JSON texts, value by value, straight from their buffers. */
import type { TypeJson } from '../domain/function.ts';
import { type ArrayData, isValidAt, offsetAt } from './array-node.ts';
import { indexAt } from './array-reader.ts';
import { exactJson } from './exact-json.ts';
import { DAY_MS, dateText, decimalText, timestampText, timeText } from './time-text.ts';
import { jsonMisfit } from './value-check.ts';

/** JSON text of row `row`. */
export type TextAt = (row: number) => string;

/** Buffers read text and numbers at any alignment, and from shared memory, which TextDecoder refuses. */
const bufferOf = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const numberText = (value: number): string => (Number.isFinite(value) ? String(value) : 'null');

const writers = new WeakMap<ArrayData, TextAt>();

/** The writer of an array's values, made once per array. Never throws on a verified array. */
export function textOf(array: ArrayData): TextAt {
  let write = writers.get(array);
  if (write === undefined) {
    write = nullable(array, valueText(array));
    writers.set(array, write);
  }
  return write;
}

function nullable(array: ArrayData, write: TextAt): TextAt {
  const { validity } = array;
  return validity === null ? write : (row) => (isValidAt(validity, row) ? write(row) : 'null');
}

function valueText(array: ArrayData): TextAt {
  const { type } = array.node;
  if (typeof type === 'string') return plainText(array, type);
  if ('dictionary' in type) return dictionaryText(array);
  if ('struct' in type) return structText(array);
  if ('map' in type) return mapText(array);
  if ('fixed_size_list' in type) {
    const join = joinOf(array.children[0]!);
    return (row) => join(row * type.size, (row + 1) * type.size);
  }
  if ('list' in type || 'large_list' in type) {
    const join = joinOf(array.children[0]!);
    return (row) => join(offsetAt(array, row), offsetAt(array, row + 1));
  }
  return parametricText(array, type);
}

type Read = (row: number) => number;

/** Numbers of up to 64 bits as they lie in `bytes`; 64-bit integers are read elsewhere. */
export function numberReader(bytes: Uint8Array, type: string): Read | null {
  const b = bufferOf(bytes);
  if (type === 'int8') return (row) => b.readInt8(row);
  if (type === 'int16') return (row) => b.readInt16LE(row * 2);
  if (type === 'int32') return (row) => b.readInt32LE(row * 4);
  if (type === 'uint8') return (row) => b[row]!;
  if (type === 'uint16') return (row) => b.readUInt16LE(row * 2);
  if (type === 'uint32') return (row) => b.readUInt32LE(row * 4);
  if (type === 'float16') return (row) => float16(b.readUInt16LE(row * 2));
  if (type === 'float32') return (row) => b.readFloatLE(row * 4);
  return type === 'float64' ? (row) => b.readDoubleLE(row * 8) : null;
}

/** IEEE 754 binary16. */
function float16(half: number): number {
  const sign = (half & 0x8000) === 0 ? 1 : -1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

function plainText(array: ArrayData, type: string): TextAt {
  const b = bufferOf(array.values);
  if (type === 'null') return () => 'null';
  if (type === 'bool') return (row) => (isValidAt(array.values, row) ? 'true' : 'false');
  if (type === 'int64') return (row) => int64Text(b, row * 8);
  if (type === 'uint64') return (row) => String(b.readBigUInt64LE(row * 8));
  if (type === 'date32') return (row) => `"${dateText(b.readInt32LE(row * 4))}"`;
  if (type === 'date64') return (row) => `"${dateText(Number(b.readBigInt64LE(row * 8)) / DAY_MS)}"`;
  const read = numberReader(array.values, type);
  if (read !== null) return (row) => numberText(read(row));
  const span = (row: number, write: (start: number, end: number) => string): string =>
    write(offsetAt(array, row), offsetAt(array, row + 1));
  if (type === 'json') return (row) => span(row, (start, end) => b.toString('utf8', start, end));
  if (array.node.layout.text) return (row) => JSON.stringify(span(row, (s, e) => b.toString('utf8', s, e)));
  return (row) => `"${span(row, (start, end) => b.toString('base64', start, end))}"`;
}

/** All digits; a bigint only where a double has too few. */
function int64Text(b: Buffer, at: number): string {
  const high = b.readInt32LE(at + 4);
  if (high >= 2 ** 21 || high < -(2 ** 21)) return String(b.readBigInt64LE(at));
  return String(high * 4294967296 + b.readUInt32LE(at));
}

/** A 128- or 256-bit integer in two's complement. */
export function wideInt(b: Buffer, at: number, bytes: number): bigint {
  let value = b.readBigInt64LE(at + bytes - 8);
  for (let word = bytes - 16; word >= 0; word -= 8) value = (value << 64n) | b.readBigUInt64LE(at + word);
  return value;
}

function parametricText(array: ArrayData, type: Exclude<TypeJson, string>): TextAt {
  const b = bufferOf(array.values);
  if ('timestamp' in type)
    return (row) => `"${timestampText(b.readBigInt64LE(row * 8), type.timestamp, type.tz)}"`;
  if ('time' in type) {
    const wide = array.node.layout.width === 8;
    return (row) =>
      `"${timeText(wide ? b.readBigInt64LE(row * 8) : BigInt(b.readInt32LE(row * 4)), type.time)}"`;
  }
  if ('duration' in type) return (row) => int64Text(b, row * 8);
  if ('decimal' in type) {
    const bytes = type.bits / 8;
    return (row) => `"${decimalText(wideInt(b, row * bytes, bytes), type.decimal[1])}"`;
  }
  const { width } = array.node.layout;
  return (row) => `"${b.toString('base64', row * width, (row + 1) * width)}"`;
}

/** Chunk and row of a dictionary's value. */
export function dictionaryEntry(array: ArrayData, row: number): { chunk: ArrayData; row: number } | null {
  let index = indexAt(array, row);
  for (const chunk of array.dictionary!.chunks) {
    if (index < chunk.length) return index < 0 ? null : { chunk, row: index };
    index -= chunk.length;
  }
  return null;
}

function dictionaryText(array: ArrayData): TextAt {
  return (row) => {
    const entry = dictionaryEntry(array, row);
    return entry === null ? 'null' : textOf(entry.chunk)(entry.row);
  };
}

function structText(array: ArrayData): TextAt {
  const members = array.children.map((child) => ({
    name: `${JSON.stringify(child.node.name)}:`,
    write: textOf(child),
  }));
  return (row) => {
    let text = '{';
    for (const { name, write } of members) text += (text === '{' ? '' : ',') + name + write(row);
    return `${text}}`;
  };
}

/** Keys that are not texts become the text of their JSON. */
function mapText(array: ArrayData): TextAt {
  const [keys, items] = array.children[0]!.children;
  const [key, item] = [textOf(keys!), textOf(items!)];
  return (row) => {
    let text = '{';
    const end = offsetAt(array, row + 1);
    for (let i = offsetAt(array, row); i < end; i++) {
      const name = key(i);
      text += `${text === '{' ? '' : ','}${name.startsWith('"') ? name : JSON.stringify(name)}:${item(i)}`;
    }
    return `${text}}`;
  };
}

const TYPED: Readonly<Record<string, (b: Uint8Array) => Float64Array | Float32Array | Int32Array | null>> = {
  float64: (b) => (b.byteOffset % 8 === 0 ? new Float64Array(b.buffer, b.byteOffset, b.length >> 3) : null),
  float32: (b) => (b.byteOffset % 4 === 0 ? new Float32Array(b.buffer, b.byteOffset, b.length >> 2) : null),
  int32: (b) => (b.byteOffset % 4 === 0 ? new Int32Array(b.buffer, b.byteOffset, b.length >> 2) : null),
};

/** A range of an array as a JSON list; ranges of numbers are joined by the engine. */
function joinOf(item: ArrayData): (start: number, end: number) => string {
  const { type } = item.node;
  const typed = typeof type === 'string' && item.validity === null ? TYPED[type]?.(item.values) : null;
  if (typed) {
    return (start, end) => {
      const text = typed.subarray(start, end).join();
      // "NaN" and "Infinity" are the only letters besides the exponent's "e".
      return `[${text.includes('N') || text.includes('I') ? text.replace(/NaN|-?Infinity/g, 'null') : text}]`;
    };
  }
  const write = textOf(item);
  return (start, end) => {
    let text = '[';
    for (let i = start; i < end; i++) text += (i === start ? '' : ',') + write(i);
    return `${text}]`;
  };
}

/** First row whose text is no JSON, -1 when all are. */
export function firstInvalidJson(array: ArrayData): number {
  return firstJson(array, JSON.parse, () => false);
}

/** First row whose text a handler could not read, or would read as another value; null where there is none. */
export function firstJsonMisfit(array: ArrayData): { readonly row: number; readonly why: string } | null {
  let misfit: string | null = null;
  const row = firstJson(
    array,
    (text) => exactJson(text).value,
    (value) => {
      misfit = jsonMisfit(value);
      return misfit !== null;
    },
  );
  return row < 0
    ? null
    : { row, why: misfit === null ? 'is not valid JSON' : `is JSON, but not with ${misfit}` };
}

function firstJson(
  array: ArrayData,
  parse: (text: string) => unknown,
  isBad: (value: unknown) => boolean,
): number {
  const write = textOf(array);
  const isText = array.node.type !== 'json';
  for (let row = 0; row < array.length; row++) {
    try {
      const value = isText ? (JSON.parse(write(row)) as unknown) : write(row);
      if (value !== null && isBad(parse(value as string))) return row;
    } catch {
      return row;
    }
  }
  return -1;
}
