/**
 * JavaScript values into the buffers of a record batch, a column at a time. Values must have passed `checkOf`.
 * Row counts are known, so every buffer is allocated once.
 */
import type { TypeJson } from '../domain/function.ts';
import { BugError, SluiceError } from '../errors/sluice-error.ts';
import { type Node, noBytes } from './array-node.ts';
import { BatchSink } from './batch-sink.ts';
import { bigIntJson } from './exact-json.ts';
import { NARROW_ARRAYS } from './number-arrays.ts';
import { DAY_MS, parseDecimal, parseTime, parseTimestamp } from './time-text.ts';
import { isObject, mapPairs, ownValue } from './value-check.ts';

export type Values = ArrayLike<unknown>;
/** Dictionary messages that must precede the batch are pushed here. */
type Prelude = Uint8Array[];

const encoder = new TextEncoder();
const isNull = (v: unknown): boolean => v === null || v === undefined;
const bytesOf = (view: ArrayBufferView): Uint8Array =>
  new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

/** One record batch (with the dictionaries it needs before it) of the columns' values. */
export function batchOf(nodes: readonly Node[], columns: readonly Values[], rows: number): Uint8Array[] {
  const prelude: Prelude = [];
  const sink = new BatchSink();
  for (const [i, node] of nodes.entries()) buildInto(sink, node, columns[i]!, prelude);
  return [...prelude, ...sink.batch(rows)];
}

/** Node, buffers and children of one column. */
export function buildInto(sink: BatchSink, node: Node, values: Values, prelude: Prelude): void {
  const { length } = values;
  if (node.layout.kind === 'null') sink.node(length, length);
  else if (node.dictionary !== null) dictionaryInto(sink, node, values, prelude);
  else storedInto(sink, node, values, prelude);
}

function storedInto(sink: BatchSink, node: Node, values: Values, prelude: Prelude): void {
  // JSON null in a column that is not nullable is the text `null`.
  if (node.type === 'json' && !node.nullable) {
    sink.node(values.length, 0);
    sink.buffer(noBytes());
  } else validityInto(sink, values);
  const { kind } = node.layout;
  if (kind === 'fixed') sink.buffer(fixedBytes(node.type, node.layout.width, values));
  else if (kind === 'bool') sink.buffer(bitsOf(values, (v) => v === true));
  else if (kind === 'bytes') variableInto(sink, node, values);
  else if (kind === 'struct') structInto(sink, node, values, prelude);
  else if (kind === 'list') listInto(sink, node, values, prelude);
  else fixedListInto(sink, node, values, prelude);
}

function validityInto(sink: BatchSink, values: Values): void {
  let nulls = 0;
  if (!ArrayBuffer.isView(values))
    for (let i = 0; i < values.length; i++) if (values[i] === null || values[i] === undefined) nulls++;
  sink.node(values.length, nulls);
  sink.buffer(nulls === 0 ? noBytes() : bitsOf(values, (v) => !isNull(v)));
}

function bitsOf(values: Values, isSet: (value: unknown) => boolean): Uint8Array {
  const bits = new Uint8Array((values.length + 7) >> 3);
  for (let i = 0; i < values.length; i++) if (isSet(values[i])) bits[i >> 3]! |= 1 << (i & 7);
  return bits;
}

function fixedBytes(type: TypeJson, width: number, values: Values): Uint8Array {
  const numbers = typeof type === 'string' ? NARROW_ARRAYS[type] : undefined;
  if (numbers !== undefined) {
    if (values instanceof numbers) return bytesOf(values as unknown as ArrayBufferView);
    const out = new numbers(values.length);
    for (let i = 0; i < values.length; i++) out[i] = values[i] as number;
    return new Uint8Array(out.buffer);
  }
  if (typeof type !== 'string' && 'fixed_size_binary' in type) return stridedBytes(width, values);
  const is64 = values instanceof BigInt64Array || values instanceof BigUint64Array;
  if (is64 && width === 8) return bytesOf(values);
  const integer = integerOf(type);
  return width === 4 ? int32Bytes(values, integer) : wideBytes(width, values, integer);
}

function int32Bytes(values: Values, integer: ToInteger): Uint8Array {
  const out = new Int32Array(values.length);
  for (let i = 0; i < values.length; i++) if (!isNull(values[i])) out[i] = Number(integer(values[i]));
  return bytesOf(out);
}

/** Little-endian integers of 8, 16 or 32 bytes. Plain numbers, which only 64-bit types have, go without a bigint. */
function wideBytes(width: number, values: Values, integer: ToInteger): Uint8Array {
  const words = width / 4;
  const out = new Uint32Array(values.length * words);
  for (let i = 0; i < values.length; i++) {
    if (isNull(values[i])) continue;
    let value = integer(values[i]);
    const at = i * words;
    if (typeof value === 'number') {
      out[at] = value;
      out[at + 1] = Math.floor(value / 4294967296);
      continue;
    }
    for (let k = 0; k < words; k++, value >>= 32n) out[at + k] = Number(value & 0xffffffffn);
  }
  return bytesOf(out);
}

type ToInteger = (value: unknown) => number | bigint;

const plainInteger: ToInteger = (v) => (typeof v === 'string' ? BigInt(v) : (v as number | bigint));

function integerOf(type: TypeJson): ToInteger {
  if (type === 'date32') return (v) => Math.floor(dayMs(v, DAY_MS) / DAY_MS);
  if (type === 'date64') return (v) => dayMs(v, 1);
  if (typeof type === 'string') return plainInteger;
  if ('timestamp' in type) {
    const unit = type.timestamp;
    return (v) => {
      if (typeof v === 'string') return parseTimestamp(v, unit)!;
      return v instanceof Date
        ? (parseTimestamp(v.toJSON(), unit) ?? parseTimestamp(v.toISOString(), unit) ?? instantOf(v, unit))
        : plainInteger(v);
    };
  }
  if ('time' in type) {
    const unit = type.time;
    return (v) => (typeof v === 'string' ? parseTime(v, unit)! : plainInteger(v));
  }
  if ('decimal' in type) {
    const [precision, scale] = type.decimal;
    return (v) => parseDecimal(String(v), precision, scale)!;
  }
  return plainInteger;
}

/** Milliseconds that are finer than the unit are cut. */
const instantOf = (date: Date, unit: string): number => {
  if (unit !== 's') throw new BugError(`date ${date.toISOString()} in ${unit}`);
  return Math.floor(date.getTime() / 1000);
};

function dayMs(value: unknown, perNumberMs: number): number {
  if (typeof value === 'string') return Number(parseTimestamp(value, 's')!) * 1000;
  return value instanceof Date ? value.getTime() : (value as number) * perNumberMs;
}

const binaryOf = (value: unknown): Uint8Array =>
  typeof value === 'string' ? Buffer.from(value, 'base64') : (value as Uint8Array);

function stridedBytes(width: number, values: Values): Uint8Array {
  const out = new Uint8Array(values.length * width);
  for (let i = 0; i < values.length; i++) if (!isNull(values[i])) out.set(binaryOf(values[i]), i * width);
  return out;
}

function variableInto(sink: BatchSink, node: Node, values: Values): void {
  const wide = node.layout.width === 8;
  if (!node.layout.text) {
    binaryInto(sink, wide, values);
    return;
  }
  const json = node.type === 'json';
  const texts = new Array<string>(values.length);
  for (let i = 0; i < texts.length; i++) {
    const value = values[i];
    if (json) texts[i] = isNull(value) && node.nullable ? '' : bigIntJson(value ?? null);
    else texts[i] = isNull(value) ? '' : (value as string);
  }
  textInto(sink, wide, texts);
}

function textInto(sink: BatchSink, wide: boolean, texts: readonly string[]): void {
  const joined = texts.join('');
  const bytes = encoder.encode(joined);
  const ascii = bytes.length === joined.length;
  const lengths = new Float64Array(texts.length);
  // One encoding call for all; a lone surrogate at a value's end must not meet its other half in the next value.
  const whole = ascii || joined.isWellFormed();
  for (let i = 0; i < texts.length; i++) lengths[i] = ascii ? texts[i]!.length : Buffer.byteLength(texts[i]!);
  sink.buffer(offsetBytes(lengths, wide));
  sink.buffer(
    whole && everyWellFormed(texts, ascii) ? bytes : Buffer.concat(texts.map((t) => encoder.encode(t))),
  );
}

const everyWellFormed = (texts: readonly string[], ascii: boolean): boolean =>
  ascii || texts.every((text) => text.isWellFormed());

function binaryInto(sink: BatchSink, wide: boolean, values: Values): void {
  const chunks: Uint8Array[] = [];
  const lengths = new Float64Array(values.length);
  for (let i = 0; i < values.length; i++) {
    if (isNull(values[i])) continue;
    const bytes = binaryOf(values[i]);
    lengths[i] = bytes.length;
    chunks.push(bytes);
  }
  sink.buffer(offsetBytes(lengths, wide));
  sink.buffer(Buffer.concat(chunks));
}

/** Offsets from lengths. */
function offsetBytes(lengths: Float64Array, wide: boolean): Uint8Array {
  const words = wide ? 2 : 1;
  const out = new Uint32Array((lengths.length + 1) * words);
  let end = 0;
  for (let i = 0; i < lengths.length; i++) {
    end += lengths[i]!;
    out[(i + 1) * words] = end;
    if (wide) out[(i + 1) * 2 + 1] = Math.floor(end / 4294967296);
  }
  if (!wide && end > 2 ** 31 - 1)
    throw new SluiceError('payload_too_large', `a column of ${end} bytes or items needs a large_ type`);
  return bytesOf(out);
}

function structInto(sink: BatchSink, node: Node, values: Values, prelude: Prelude): void {
  for (const child of node.children) {
    const column = new Array<unknown>(values.length);
    for (let i = 0; i < column.length; i++) {
      const value = values[i];
      column[i] = isObject(value) ? ownValue(value, child.name) : null;
    }
    buildInto(sink, child, column, prelude);
  }
}

const asList = (node: Node, value: unknown): Values =>
  typeof node.type !== 'string' && 'map' in node.type
    ? mapPairs(value)!.map(([k, v]) => ({ [mapNames(node)[0]]: k, [mapNames(node)[1]]: v }))
    : (value as Values);

const mapNames = (node: Node): readonly [string, string] => {
  const [key, item] = node.children[0]!.children;
  return [key!.name, item!.name];
};

function listInto(sink: BatchSink, node: Node, values: Values, prelude: Prelude): void {
  const lists = new Array<Values>(values.length);
  const lengths = new Float64Array(values.length);
  for (let i = 0; i < lists.length; i++) {
    const list = isNull(values[i]) ? [] : asList(node, values[i]);
    lists[i] = list;
    lengths[i] = list.length;
  }
  sink.buffer(offsetBytes(lengths, node.layout.width === 8));
  buildInto(sink, node.children[0]!, flatten(node.children[0]!, lists), prelude);
}

function fixedListInto(sink: BatchSink, node: Node, values: Values, prelude: Prelude): void {
  const { width } = node.layout;
  const absent = new Array<unknown>(width).fill(null);
  const lists = Array.from({ length: values.length }, (_, i) =>
    isNull(values[i]) ? absent : (values[i] as Values),
  );
  buildInto(sink, node.children[0]!, flatten(node.children[0]!, lists), prelude);
}

/** The items of all lists in one array: a typed one where all lists are typed arrays of the item type. */
function flatten(item: Node, lists: readonly Values[]): Values {
  let total = 0;
  for (const list of lists) total += list.length;
  const numbers = typeof item.type === 'string' ? NARROW_ARRAYS[item.type] : undefined;
  if (numbers !== undefined && lists.every((list) => ArrayBuffer.isView(list))) {
    const out = new numbers(total) as unknown as Float64Array;
    let at = 0;
    for (const list of lists as readonly Float64Array[]) {
      out.set(list, at);
      at += list.length;
    }
    return out;
  }
  const out = new Array<unknown>(total);
  let at = 0;
  for (const list of lists) for (let i = 0; i < list.length; i++) out[at++] = list[i];
  return out;
}

/** Equal texts are equal values for the types that make sense in a dictionary. */
function dictionaryInto(sink: BatchSink, node: Node, values: Values, prelude: Prelude): void {
  const distinct = new Map<unknown, number>();
  const items: unknown[] = [];
  const indices = new Array<number | null>(values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (isNull(value)) {
      indices[i] = null;
      continue;
    }
    const key = typeof value === 'object' ? keyText(value) : value;
    let index = distinct.get(key);
    if (index === undefined) {
      index = items.length;
      distinct.set(key, index);
      items.push(value);
    }
    indices[i] = index;
  }
  const { index: indexType } = node.type as { readonly index: string };
  const limit = 2 ** (node.layout.width * 8 - (indexType.startsWith('u') ? 0 : 1));
  if (items.length > limit)
    throw new SluiceError(
      'invalid_request',
      `column "${node.name}" has ${items.length} distinct values; a dictionary with ${indexType} indices holds ${limit}`,
      { field: node.name },
    );
  const dictionary = new BatchSink();
  buildInto(dictionary, node.dictionary!.values, items, prelude);
  prelude.push(...dictionary.dictionary(items.length, node.dictionary!.id, false));
  validityInto(sink, indices);
  sink.buffer(fixedBytes(indexType, node.layout.width, indices));
}

const keyText = (value: unknown): string =>
  JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? `${v}n` : v));
