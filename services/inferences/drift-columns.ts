/** The leaf columns of sampled rows, each as numbers: what drift figures are computed from. */
import { hash } from 'node:crypto';
import { type ArrayData, isValidAt, offsetAt } from '../../shared/arrow/array-node.ts';
import { NUMBER_ARRAYS } from '../../shared/arrow/number-arrays.ts';
import { dictionaryEntry, wideInt } from '../../shared/arrow/value-text.ts';
import type { TypeJson } from '../../shared/domain/function.ts';

/** Numbers, times and norms as they are; texts as a number of their hash, so that long ones are not kept. */
export type LeafReader = {
  readonly kind: 'ordered' | 'category';
  /** null: the row has no value. */
  readonly read: (row: number) => number | null;
};
export type Leaf = LeafReader & { readonly name: string };

/**
 * Of a batch's columns `output` and `input`, in this order; members of structs by `input.sqft`. What has no figures is left
 * out: binaries, maps, lists of anything but numbers.
 */
export const driftLeaves = (columns: readonly ArrayData[]): readonly Leaf[] =>
  ['output', 'input'].flatMap((name) =>
    columns.filter(({ node }) => node.name === name).flatMap((array) => leavesOf(array, name, () => true)),
  );

const leavesOf = (array: ArrayData, name: string, isThere: (row: number) => boolean): readonly Leaf[] => {
  const { validity, node, children } = array;
  const isHere = validity === null ? isThere : (row: number) => isValidAt(validity, row) && isThere(row);
  if (node.layout.kind === 'struct' && node.dictionary === null)
    return children.flatMap((child) => leavesOf(child, `${name}.${child.node.name}`, isHere));
  const reader = readerOf(array);
  if (reader === null) return [];
  return [{ name, kind: reader.kind, read: (row) => (isHere(row) ? reader.read(row) : null) }];
};

const ordered = (read: LeafReader['read']): LeafReader => ({ kind: 'ordered', read });
const category = (read: LeafReader['read']): LeafReader => ({ kind: 'category', read });

/** Of values that are not null; null: there are no figures for this type. */
const readerOf = (array: ArrayData): LeafReader | null => {
  const { values, node } = array;
  const { type, layout } = node;
  if (node.dictionary !== null) return dictionaryReader(array);
  if (type === 'bool') return category((row) => (isValidAt(values, row) ? 1 : 0));
  if (layout.kind === 'bytes') return layout.text ? category(textHash(array)) : null;
  const read = fixedReader(values, type, layout.width);
  if (read !== null) return ordered(read);
  const [child] = array.children;
  if ((layout.kind !== 'list' && layout.kind !== 'fixed_list') || child === undefined) return null;
  const item = fixedReader(child.values, child.node.type, child.node.layout.width);
  return item === null || child.node.dictionary !== null ? null : ordered(norm(array, child, item));
};

/** Values of so many bytes; times, dates and durations in milliseconds, whatever the unit that a version declares. */
const fixedReader = (values: Uint8Array, type: TypeJson, width: number): ((row: number) => number) | null => {
  if (typeof type !== 'string' && 'decimal' in type) {
    const b = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
    const scale = 10 ** type.decimal[1];
    return (row) => Number(wideInt(b, row * width, width)) / scale;
  }
  const stored = storedType(type, width);
  if (stored === null) return null;
  const Numbers = NUMBER_ARRAYS[stored]!;
  const { buffer, byteOffset, byteLength } =
    values.byteOffset % width === 0 ? values : new Uint8Array(values);
  const numbers = new Numbers(buffer, byteOffset, Math.floor(byteLength / width));
  const [times, parts] = millisecondsOf(type);
  return (row) => (Number(numbers[row]) * times) / parts;
};

const DAY_MS = 86_400_000;
const UNITS = { s: [1000, 1], ms: [1, 1], us: [1, 1000], ns: [1, 1_000_000] } as const;

/** What a stored integer is multiplied with, and divided by. */
const millisecondsOf = (type: TypeJson): readonly [number, number] => {
  if (typeof type === 'string') return type === 'date32' ? [DAY_MS, 1] : [1, 1];
  if ('timestamp' in type) return UNITS[type.timestamp];
  if ('time' in type) return UNITS[type.time];
  return 'duration' in type ? UNITS[type.duration] : [1, 1];
};

/** The type of numbers that a type is stored as; null: none. */
const storedType = (type: TypeJson, width: number): string | null => {
  if (typeof type !== 'string')
    return 'timestamp' in type || 'time' in type || 'duration' in type ? `int${8 * width}` : null;
  if (type === 'date32' || type === 'date64') return `int${8 * width}`;
  return Object.hasOwn(NUMBER_ARRAYS, type) ? type : null;
};

/** Six bytes: fifty thousand texts of a column meet by chance once in 200,000 columns. */
const HASH_BYTES = 6;

const textHash =
  (array: ArrayData) =>
  (row: number): number => {
    const text = array.values.subarray(offsetAt(array, row), offsetAt(array, row + 1));
    return hash('sha1', text, 'buffer').readUIntBE(0, HASH_BYTES);
  };

const dictionaryReader = (array: ArrayData): LeafReader | null => {
  const readers = new Map((array.dictionary?.chunks ?? []).map((chunk) => [chunk, readerOf(chunk)]));
  const kind = [...readers.values()][0]?.kind;
  if (kind === undefined) return null;
  return {
    kind,
    read: (row) => {
      const entry = dictionaryEntry(array, row);
      if (entry === null || !isValidAt(entry.chunk.validity, entry.row)) return null;
      return readers.get(entry.chunk)?.read(entry.row) ?? null;
    },
  };
};

/** The Euclidean norm of a list of numbers; items that are null count as nought. */
const norm =
  (array: ArrayData, child: ArrayData, item: (row: number) => number) =>
  (row: number): number => {
    const { layout } = array.node;
    const isFixed = layout.kind === 'fixed_list';
    const end = isFixed ? (row + 1) * layout.width : offsetAt(array, row + 1);
    let squares = 0;
    for (let at = isFixed ? row * layout.width : offsetAt(array, row); at < end; at += 1)
      if (isValidAt(child.validity, at)) squares += item(at) ** 2;
    return Math.sqrt(squares);
  };
