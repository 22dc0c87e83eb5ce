/** A field with its physical layout: what the verifier, the slicer, the builders and the JSON writer all walk over. */
import type { FieldJson, TypeJson } from '../domain/function.ts';
import { BugError } from '../errors/sluice-error.ts';

/**
 * `fixed`: `width` bytes a value. `bytes`, `list`: offsets of `width` bytes (4 or 8). `fixed_list`: `width` items a
 * value. `text` is true where the bytes must be UTF-8.
 */
export type Layout = {
  readonly kind: 'null' | 'bool' | 'fixed' | 'bytes' | 'list' | 'fixed_list' | 'struct';
  readonly width: number;
  readonly text: boolean;
};

export type Node = {
  readonly name: string;
  readonly nullable: boolean;
  readonly type: TypeJson;
  /** Of the array as it lies in a batch: a dictionary column's layout is that of its indices. */
  readonly layout: Layout;
  /** A map has one child, the struct of its entries. */
  readonly children: readonly Node[];
  readonly dictionary: { readonly id: number; readonly values: Node } | null;
  /** What a caller's table says of the field besides; a stream that is written anew says it again. */
  readonly metadata?: ReadonlyMap<string, string>;
};

/** A verified array inside a batch; buffers are views of the stream's bytes. */
export type ArrayData = {
  readonly node: Node;
  readonly length: number;
  readonly nullCount: number;
  /** null when nothing is null. */
  readonly validity: Uint8Array | null;
  /** 32-bit offsets as they are, 64-bit offsets as pairs of low and high word. */
  readonly offsets: Uint32Array | null;
  readonly values: Uint8Array;
  readonly children: readonly ArrayData[];
  readonly dictionary: Dictionary | null;
};

/** A dictionary as it stands at some batch: deltas append to `chunks`, a replacement is a new one. */
export type Dictionary = { readonly chunks: readonly ArrayData[]; readonly length: number };

const NO_BYTES = new Uint8Array(0);
export const noBytes = (): Uint8Array => NO_BYTES;

const layout = (kind: Layout['kind'], width = 0, text = false): Layout => ({ kind, width, text });
const NULL = layout('null');
const STRUCT = layout('struct');
const LIST = layout('list', 4);
const LARGE_LIST = layout('list', 8);
const FIXED: Readonly<Record<number, Layout>> = Object.fromEntries(
  [1, 2, 4, 8, 16, 32].map((width) => [width, layout('fixed', width)]),
);

const PLAIN: Readonly<Record<string, Layout>> = {
  null: NULL,
  bool: layout('bool'),
  int8: FIXED[1]!,
  int16: FIXED[2]!,
  int32: FIXED[4]!,
  int64: FIXED[8]!,
  uint8: FIXED[1]!,
  uint16: FIXED[2]!,
  uint32: FIXED[4]!,
  uint64: FIXED[8]!,
  float16: FIXED[2]!,
  float32: FIXED[4]!,
  float64: FIXED[8]!,
  utf8: layout('bytes', 4, true),
  json: layout('bytes', 4, true),
  large_utf8: layout('bytes', 8, true),
  binary: layout('bytes', 4),
  large_binary: layout('bytes', 8),
  date32: FIXED[4]!,
  date64: FIXED[8]!,
};

/** Numbers dictionaries in depth-first order from 0, as pyarrow does. */
export const sequentialIds = (): (() => number) => {
  let next = 0;
  return () => next++;
};

/** The field's node; `nextId` gives the ids of its dictionaries in depth-first order. */
export function nodeOf(field: FieldJson, nextId: () => number): Node {
  const { name, nullable, type } = field;
  if (typeof type !== 'string' && 'dictionary' in type) {
    const id = nextId();
    const values = nodeOf({ name, nullable: true, type: type.dictionary }, nextId);
    return { name, nullable, type, layout: PLAIN[type.index]!, children: [], dictionary: { id, values } };
  }
  const children = childFields(type).map((child) => nodeOf(child, nextId));
  return { name, nullable, type, layout: layoutOf(type), children, dictionary: null };
}

/** The nodes of a whole schema. */
export const nodesOf = (fields: readonly FieldJson[]): readonly Node[] => {
  const nextId = sequentialIds();
  return fields.map((field) => nodeOf(field, nextId));
};

function layoutOf(type: TypeJson): Layout {
  if (typeof type === 'string') {
    const plain = PLAIN[type];
    if (plain === undefined) throw new BugError(`type ${type} has no layout of its own`);
    return plain;
  }
  if ('list' in type || 'map' in type) return LIST;
  if ('large_list' in type) return LARGE_LIST;
  if ('fixed_size_list' in type) return layout('fixed_list', type.size);
  if ('struct' in type) return STRUCT;
  if ('decimal' in type) return FIXED[type.bits / 8]!;
  if ('fixed_size_binary' in type) return layout('fixed', type.fixed_size_binary);
  if ('time' in type) return type.time === 's' || type.time === 'ms' ? FIXED[4]! : FIXED[8]!;
  return FIXED[8]!;
}

function childFields(type: TypeJson): readonly FieldJson[] {
  if (typeof type === 'string') return [];
  if ('list' in type) return [type.list];
  if ('large_list' in type) return [type.large_list];
  if ('fixed_size_list' in type) return [type.fixed_size_list];
  if ('struct' in type) return type.struct;
  if ('map' in type) return [{ name: 'entries', type: { struct: type.map }, nullable: false }];
  return [];
}

/** Offset `index` of an array with offsets. */
export function offsetAt(array: ArrayData, index: number): number {
  const offsets = array.offsets!;
  if (array.node.layout.width === 4) return offsets[index]!;
  return offsets[index * 2]! + offsets[index * 2 + 1]! * 4294967296;
}

export const isValidAt = (validity: Uint8Array | null, index: number): boolean =>
  validity === null || ((validity[index >> 3]! >> (index & 7)) & 1) === 1;

const POPCOUNT = Uint8Array.from({ length: 256 }, (_, byte) => {
  let bits = 0;
  for (let rest = byte; rest > 0; rest >>= 1) bits += rest & 1;
  return bits;
});

/** Zero bits of `bitmap` in [from, from + count). */
export function countZeros(bitmap: Uint8Array, from: number, count: number): number {
  let ones = 0;
  let at = from;
  const end = from + count;
  while (at < end && (at & 7) !== 0) ones += (bitmap[at >> 3]! >> (at++ & 7)) & 1;
  for (; at + 8 <= end; at += 8) ones += POPCOUNT[bitmap[at >> 3]!]!;
  while (at < end) ones += (bitmap[at >> 3]! >> (at++ & 7)) & 1;
  return count - ones;
}

/** Bits [from, from + count) of `bitmap`, moved to bit 0; the rest of the last byte is zero. */
export function shiftBits(bitmap: Uint8Array, from: number, count: number): Uint8Array {
  const length = (count + 7) >> 3;
  const start = from >> 3;
  const shift = from & 7;
  if (shift === 0 && (count & 7) === 0) return bitmap.subarray(start, start + length);
  const out = bitmap.slice(start, start + length);
  if (shift !== 0)
    for (let i = 0; i < length; i++)
      out[i] = (bitmap[start + i]! >> shift) | ((bitmap[start + i + 1] ?? 0) << (8 - shift));
  if ((count & 7) !== 0) out[length - 1]! &= (1 << (count & 7)) - 1;
  return out;
}
