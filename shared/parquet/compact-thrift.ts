/**
 * Thrift's compact protocol, as far as a Parquet footer needs it
 * (https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md). hyparquet reads it.
 */
import type { DataReader } from 'hyparquet';
import { readVarInt, readZigZag } from 'hyparquet/src/thrift.js';

/** As hyparquet reads it: a number is an i32, a bigint an i64, an object a struct. */
export type Thrift = number | bigint | Uint8Array | readonly Thrift[] | ThriftStruct | StructBytes;
export type ThriftStruct = { readonly [field: `field_${number}`]: Thrift | undefined };

const I32 = 5;
const I64 = 6;
const BINARY = 8;
const LIST = 9;
const STRUCT = 12;

const typeOf = (value: Thrift): number => {
  if (typeof value === 'number') return I32;
  if (typeof value === 'bigint') return I64;
  if (value instanceof Uint8Array) return BINARY;
  return Array.isArray(value) ? LIST : STRUCT;
};

const varint = (value: bigint): number[] => {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return [...bytes, Number(rest)];
};

const zigzag = (value: number | bigint): number[] =>
  varint(BigInt.asUintN(64, (BigInt(value) << 1n) ^ (BigInt(value) >> 63n)));

/** What stands before the elements of a list. */
const listHead = (type: number, length: number): number[] =>
  length < 15 ? [(length << 4) | type] : [0xf0 | type, ...varint(BigInt(length))];

/** Fields in the order of their numbers, which must ascend by at most 15, from `after` on. */
export const fieldBytes = (struct: ThriftStruct, after: number): Uint8Array =>
  Uint8Array.from(fieldsOf(struct, after));

const fieldsOf = (struct: ThriftStruct, after: number): number[] => {
  const bytes: number[] = [];
  let before = after;
  for (const [name, value] of Object.entries(struct)) {
    if (value === undefined) continue;
    const id = Number(name.slice('field_'.length));
    bytes.push(((id - before) << 4) | typeOf(value));
    for (const byte of valueBytes(value)) bytes.push(byte);
    before = id;
  }
  return bytes;
};

const valueBytes = (value: Thrift): Iterable<number> => {
  if (typeof value === 'number' || typeof value === 'bigint') return zigzag(value);
  if (value instanceof Uint8Array) return [...varint(BigInt(value.length)), ...value];
  if (value instanceof StructBytes) return value.bytes;
  if (!Array.isArray(value)) return [...fieldsOf(value as ThriftStruct, 0), 0];
  const bytes = listHead(typeOf(value[0]), value.length);
  for (const element of value) for (const byte of valueBytes(element)) bytes.push(byte);
  return bytes;
};

/** A struct that is written once and stands in many. */
export class StructBytes {
  readonly bytes: Uint8Array;

  constructor(struct: ThriftStruct) {
    this.bytes = Uint8Array.from(valueBytes(struct));
  }
}

/** The fields of a struct, and where each stands: from its head to its end. */
export function* fieldRanges(bytes: Uint8Array): Generator<{ id: number; from: number; to: number }> {
  const reader = { view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), offset: 0 };
  let id = 0;
  for (;;) {
    const from = reader.offset;
    const head = reader.view.getUint8(reader.offset++);
    if ((head & 0x0f) === 0) return;
    id = head >> 4 ? id + (head >> 4) : readZigZag(reader);
    skip(reader, head & 0x0f);
    yield { id, from, to: reader.offset };
  }
}

const skip = (reader: DataReader, type: number): void => {
  if (type === 3) reader.offset += 1;
  else if (type === 4 || type === I32 || type === I64) skipVarint(reader);
  else if (type === 7) reader.offset += 8;
  else if (type === BINARY) skipBytes(reader);
  else if (type === LIST || type === 10) skipList(reader);
  else if (type === STRUCT) skipStruct(reader);
  // 1 and 2 are true and false, which the head of a field says already.
  else if (type > 2) throw new Error(`Thrift type ${type} is not used by Parquet`);
};

const skipBytes = (reader: DataReader): void => {
  const length = readVarInt(reader);
  reader.offset += length;
};

const skipVarint = (reader: DataReader): void => {
  while (reader.view.getUint8(reader.offset++) & 0x80);
};

const skipList = (reader: DataReader): void => {
  const head = reader.view.getUint8(reader.offset++);
  const length = head >> 4 === 15 ? readVarInt(reader) : head >> 4;
  // Booleans in lists are a byte each.
  const type = (head & 0x0f) <= 2 ? 3 : head & 0x0f;
  for (let i = 0; i < length; i++) skip(reader, type);
};

const skipStruct = (reader: DataReader): void => {
  for (;;) {
    const head = reader.view.getUint8(reader.offset++);
    if ((head & 0x0f) === 0) return;
    if (head >> 4 === 0) skipVarint(reader);
    skip(reader, head & 0x0f);
  }
};
