/** Schemas between Arrow IPC messages and FieldJson (arrow/format/Schema.fbs). */
import { Builder } from 'flatbuffers';
import type { FieldJson, TypeJson } from '../domain/function.ts';
import { type Node, nodeOf } from './array-node.ts';
import { extensionFits } from './extension-types.ts';
import type { FlatTable } from './flat-table.ts';
import { frameMessage, MESSAGE_SCHEMA } from './message-frame.ts';
import { COLUMNS_MAX, DEPTH_MAX, NODES_MAX, TIME_UNITS, typeText } from './type-text.ts';

/** Field metadata whose value `json` marks a utf8 column of JSON texts. */
const TYPE_KEY = 'sluice.type';
const EXTENSION_KEY = 'ARROW:extension:name';
const EXTENSION_METADATA_KEY = 'ARROW:extension:metadata';
const KEYS: ReadonlySet<string> = new Set([TYPE_KEY, EXTENSION_KEY, EXTENSION_METADATA_KEY]);
const KEY_BYTES_MAX = EXTENSION_METADATA_KEY.length;

export type Schema = { readonly fields: readonly FieldJson[]; readonly nodes: readonly Node[] };

const REFUSED: Readonly<Record<number, string>> = {
  11: 'interval',
  14: 'union',
  22: 'run-end encoded',
  23: 'binary view',
  24: 'utf8 view',
  25: 'list view',
  26: 'large list view',
};

type Metadata = ReadonlyMap<string, string>;
const NO_METADATA: Metadata = new Map();

type Walk = { readonly ids: number[]; nodes: number };

export function readSchema(table: FlatTable): Schema {
  const { flat } = table;
  if (table.i16(0) !== 0) flat.fail('the schema is big-endian; only little-endian is supported');
  if (!table.has(1)) flat.fail('the schema has no list of fields');
  const { length } = table.vector(1, 4);
  if (length > COLUMNS_MAX) flat.fail(`the schema has ${length} columns; at most ${COLUMNS_MAX} are allowed`);
  checkPairs(table, 2);
  // Features: read for their bounds, none of those that exist tells more than the messages do.
  table.vector(3, 8);
  const walk: Walk = { ids: [], nodes: 0 };
  const fields = table.tables(1, (field) => readField(field, walk, 0));
  let next = 0;
  const nodes = fields.map((field) => nodeOf(field, () => walk.ids[next++]!));
  return { fields, nodes };
}

function readField(table: FlatTable, walk: Walk, depth: number): FieldJson {
  const { flat } = table;
  if (depth >= DEPTH_MAX) flat.fail(`types nest more than ${DEPTH_MAX} levels deep`);
  if (++walk.nodes > NODES_MAX) flat.fail(`the schema has more than ${NODES_MAX} fields in all`);
  const name = table.string(0) ?? '';
  const encoding = table.table(4);
  // The id is taken before the children are read: ids are kept in depth-first order.
  if (encoding !== null) walk.ids.push(encoding.i64(0, 'a dictionary id'));
  if (table.vector(5, 4).length > COLUMNS_MAX)
    flat.fail(`field "${name}" has more than ${COLUMNS_MAX} children`);
  const children = table.tables(5, (child) => readField(child, walk, depth + 1));
  let type = readType(table, children, name);
  const pairs = checkPairs(table, 6);
  if (type === 'utf8' && pairs?.get(TYPE_KEY) === 'json') type = 'json';
  if (encoding !== null) type = readDictionary(encoding, type, name);
  if (pairs !== null) checkExtension(table, pairs, type, name);
  return { name, type, nullable: table.u8(1) !== 0 };
}

function readDictionary(encoding: FlatTable, values: TypeJson, name: string): TypeJson {
  const index = encoding.table(1);
  if (index === null) return encoding.flat.fail(`field "${name}" has a dictionary without a type of indices`);
  const type = intType(index, name);
  return { dictionary: values, index: type, ordered: encoding.u8(2) !== 0 };
}

/** Custom metadata, which other readers want whole; the first value of each of the keys that we know. */
export function checkPairs(table: FlatTable, slot: number): ReadonlyMap<string, string> | null {
  if (!table.has(slot)) return null;
  const known = new Map<string, string>();
  table.tables(slot, (pair) => {
    const [key, value] = [pair.text(0), pair.text(1)];
    if (key === null || value === null) return pair.flat.fail('its custom metadata lacks a key or a value');
    if (key.length > KEY_BYTES_MAX) return;
    const name = key.toString('latin1');
    if (KEYS.has(name) && !known.has(name)) known.set(name, pair.string(1)!);
  });
  return known;
}

function checkExtension(
  table: FlatTable,
  pairs: ReadonlyMap<string, string>,
  type: TypeJson,
  name: string,
): void {
  const extension = pairs.get(EXTENSION_KEY);
  if (extension === undefined || extensionFits(extension, type, pairs.get(EXTENSION_METADATA_KEY) ?? ''))
    return;
  table.flat.fail(
    `field "${name}" has the extension type ${extension.slice(0, 64)}, which does not fit ${typeText(type)} or is not supported; ` +
      'cast it to its storage type first',
  );
}

function intType(table: FlatTable, name: string): string {
  const bits = table.i32(0);
  if (bits !== 8 && bits !== 16 && bits !== 32 && bits !== 64)
    table.flat.fail(`field "${name}" is an integer of ${bits} bits`);
  return `${table.u8(1) !== 0 ? '' : 'u'}int${bits}`;
}

/** Types without parameters, by their number in the union `Type`. */
export const BARE_TYPES: Readonly<Record<number, string>> = {
  1: 'null',
  4: 'binary',
  5: 'utf8',
  6: 'bool',
  19: 'large_binary',
  20: 'large_utf8',
};

function readType(field: FlatTable, children: readonly FieldJson[], name: string): TypeJson {
  const id = field.u8(2);
  const { flat } = field;
  const fail = (what: string): never => flat.fail(`field "${name}" ${what}`);
  if (REFUSED[id] !== undefined)
    return fail(`has the type ${REFUSED[id]}, which is not supported; cast it first`);
  const childrenExpected =
    id === 12 || id === 21 || id === 16 || id === 17 ? 1 : id === 13 ? children.length : 0;
  if (children.length !== childrenExpected) fail(`has ${children.length} children, not ${childrenExpected}`);
  const type = field.table(3);
  if (type === null) return fail(`has no type (number ${id})`);
  if (id === 12) return { list: children[0]! };
  if (id === 21) return { large_list: children[0]! };
  if (id === 13) return { struct: children };
  // Whether keys are sorted is read for its bounds.
  if (id === 17) type.u8(0);
  if (id === 17) return mapType(children[0]!, fail);
  if (BARE_TYPES[id] !== undefined) return BARE_TYPES[id];
  return parametricType(id, type, children, fail, name);
}

function mapType(entries: FieldJson, fail: (what: string) => never): TypeJson {
  const { type } = entries;
  if (typeof type === 'string' || !('struct' in type) || type.struct.length !== 2)
    return fail(`is a map whose entries are ${typeText(type)}, not a struct of key and value`);
  if (entries.nullable || type.struct[0]!.nullable)
    return fail('is a map whose entries or keys are nullable');
  return { map: [type.struct[0]!, type.struct[1]!] };
}

function parametricType(
  id: number,
  type: FlatTable,
  children: readonly FieldJson[],
  fail: (what: string) => never,
  name: string,
): TypeJson {
  const unit = (fallback: number) => TIME_UNITS[type.i16(0, fallback)] ?? fail(`has an unknown time unit`);
  if (id === 2) return intType(type, name);
  if (id === 3)
    return ['float16', 'float32', 'float64'][type.i16(0)] ?? fail('has an unknown float precision');
  if (id === 7) return decimalType(type, fail);
  if (id === 8) return ['date32', 'date64'][type.i16(0, 1)] ?? fail('has an unknown date unit');
  if (id === 9) return timeType(unit(1), type.i32(1, 32), fail);
  if (id === 10) return { timestamp: unit(0), tz: type.string(1) };
  if (id === 18) return { duration: unit(1) };
  const size = type.i32(0);
  if (id !== 15 && id !== 16) return fail(`is of the unknown type number ${id}`);
  if (size < 0) return fail(`has the negative size ${size}`);
  return id === 15 ? { fixed_size_binary: size } : { fixed_size_list: children[0]!, size };
}

function timeType(unit: 's' | 'ms' | 'us' | 'ns', bits: number, fail: (what: string) => never): TypeJson {
  const expected = unit === 's' || unit === 'ms' ? 32 : 64;
  return bits === expected ? { time: unit } : fail(`is a time in ${unit} of ${bits} bits, not ${expected}`);
}

function decimalType(type: FlatTable, fail: (what: string) => never): TypeJson {
  const [precision, scale, bits] = [type.i32(0), type.i32(1), type.i32(2, 128)];
  if (bits !== 128 && bits !== 256) return fail(`is a decimal of ${bits} bits; 128 and 256 are supported`);
  if (precision < 1 || precision > (bits === 128 ? 38 : 76) || Math.abs(scale) > 128)
    return fail(`is a decimal of precision ${precision} and scale ${scale}, which is out of range`);
  return { decimal: [precision, scale], bits };
}

/** The schema as a whole encapsulated message. Dictionary ids are those of the nodes. */
export function schemaMessage(nodes: readonly Node[], metadata: Metadata = NO_METADATA): Uint8Array {
  const b = new Builder(256);
  return frameMessage(b, MESSAGE_SCHEMA, writeSchema(b, nodes, metadata), 0);
}

export function writeSchema(b: Builder, nodes: readonly Node[], metadata: Metadata = NO_METADATA): number {
  const fields = offsets(
    b,
    nodes.map((node) => writeField(b, node)),
  );
  const pairs = writePairs(b, metadata);
  b.startObject(4);
  b.addFieldOffset(1, fields, 0);
  b.addFieldOffset(2, pairs, 0);
  return b.endObject();
}

export const fieldsToSchemaMessage = (fields: readonly FieldJson[]): Uint8Array => {
  let next = 0;
  return schemaMessage(fields.map((field) => nodeOf(field, () => next++)));
};

function offsets(b: Builder, items: readonly number[]): number {
  b.startVector(4, items.length, 4);
  for (let i = items.length - 1; i >= 0; i--) b.addOffset(items[i]!);
  return b.endVector();
}

function writeField(b: Builder, node: Node): number {
  const stored = node.dictionary?.values ?? node;
  const children = offsets(
    b,
    stored.children.map((child) => writeField(b, child)),
  );
  const { metadata: given = NO_METADATA } = node;
  const metadata = writePairs(b, stored.type === 'json' ? new Map([...given, [TYPE_KEY, 'json']]) : given);
  const name = b.createString(node.name);
  const [id, type] = writeType(b, stored.type);
  const dictionary = node.dictionary === null ? 0 : writeEncoding(b, node, node.dictionary.id);
  b.startObject(7);
  b.addFieldOffset(0, name, 0);
  b.addFieldInt8(1, node.nullable ? 1 : 0, 0);
  b.addFieldInt8(2, id, 0);
  b.addFieldOffset(3, type, 0);
  b.addFieldOffset(4, dictionary, 0);
  b.addFieldOffset(5, children, 0);
  b.addFieldOffset(6, metadata, 0);
  return b.endObject();
}

function writePairs(b: Builder, metadata: Metadata): number {
  if (metadata.size === 0) return 0;
  const pairs = Array.from(metadata, ([name, text]) => {
    const [key, value] = [b.createString(name), b.createString(text)];
    b.startObject(2);
    b.addFieldOffset(0, key, 0);
    b.addFieldOffset(1, value, 0);
    return b.endObject();
  });
  return offsets(b, pairs);
}

function writeEncoding(b: Builder, node: Node, id: number): number {
  const type = node.type as { readonly index: string; readonly ordered: boolean };
  const [, index] = writeType(b, type.index);
  b.startObject(4);
  b.addFieldInt64(0, BigInt(id), 0n);
  b.addFieldOffset(1, index, 0);
  b.addFieldInt8(2, type.ordered ? 1 : 0, 0);
  return b.endObject();
}

/** One table with scalar members; `null` leaves a member out. */
type Member = readonly [bits: 8 | 16 | 32, value: number];

function scalars(b: Builder, ...members: readonly Member[]): number {
  b.startObject(members.length);
  // Members are forced: Arrow's defaults differ from zero in places, and a written default is valid as well.
  members.forEach(([bits, value], slot) => {
    if (bits === 8) b.addInt8(value);
    else if (bits === 16) b.addInt16(value);
    else b.addInt32(value);
    b.slot(slot);
  });
  return b.endObject();
}

function writeType(b: Builder, type: TypeJson): readonly [id: number, table: number] {
  if (typeof type === 'string') return writePlainType(b, type);
  const unit = (value: string): Member => [16, (TIME_UNITS as readonly string[]).indexOf(value)];
  if ('list' in type) return [12, scalars(b)];
  if ('large_list' in type) return [21, scalars(b)];
  if ('fixed_size_list' in type) return [16, scalars(b, [32, type.size])];
  if ('struct' in type) return [13, scalars(b)];
  if ('map' in type) return [17, scalars(b, [8, 0])];
  if ('time' in type)
    return [9, scalars(b, unit(type.time), [32, type.time === 's' || type.time === 'ms' ? 32 : 64])];
  if ('duration' in type) return [18, scalars(b, unit(type.duration))];
  if ('decimal' in type)
    return [7, scalars(b, [32, type.decimal[0]], [32, type.decimal[1]], [32, type.bits])];
  if ('fixed_size_binary' in type) return [15, scalars(b, [32, type.fixed_size_binary])];
  if ('timestamp' in type) {
    const tz = type.tz === null ? 0 : b.createString(type.tz);
    b.startObject(2);
    b.addFieldInt16(0, TIME_UNITS.indexOf(type.timestamp), 0);
    b.addFieldOffset(1, tz, 0);
    return [10, b.endObject()];
  }
  return writeType(b, type.dictionary);
}

function writePlainType(b: Builder, type: string): readonly [number, number] {
  const int = /^(u?)int(\d+)$/.exec(type);
  if (int !== null) return [2, scalars(b, [32, Number(int[2])], [8, int[1] === '' ? 1 : 0])];
  const float = ['float16', 'float32', 'float64'].indexOf(type);
  if (float >= 0) return [3, scalars(b, [16, float])];
  const date = ['date32', 'date64'].indexOf(type);
  if (date >= 0) return [8, scalars(b, [16, date])];
  const stored = type === 'json' ? 'utf8' : type;
  const id = Object.keys(BARE_TYPES).find((key) => BARE_TYPES[Number(key)] === stored);
  return [Number(id), scalars(b)];
}
