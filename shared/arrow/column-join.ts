/**
 * Columns of many arrays as one column of a declared type. Arrays of that type are concatenated by their buffers; others are
 * cast; dictionaries become their values.
 */
import type { TypeJson } from '../domain/function.ts';
import { type ArrayData, countZeros, isValidAt, type Node, noBytes, offsetAt } from './array-node.ts';
import type { BatchSink } from './batch-sink.ts';
import { castsTo } from './input-match.ts';
import { sameType, typeText } from './type-text.ts';
import { CastError, castFixed, refuseCast } from './value-cast.ts';
import { dictionaryEntry, textOf } from './value-text.ts';

/** Rows [from, from + count) of an array; without an array, so many nulls. */
export type Piece = { readonly array: ArrayData | null; readonly from: number; readonly count: number };

type Filled = Piece & { readonly array: ArrayData };

const nulls = (count: number): Piece => ({ array: null, from: 0, count });
export const wholePiece = (array: ArrayData): Piece => ({ array, from: 0, count: array.length });
const rowsOf = (pieces: readonly Piece[]): number => pieces.reduce((rows, { count }) => rows + count, 0);

/** Pieces of plain arrays: a dictionary's rows are rows of its values, which lie anywhere there. */
function plainPieces(piece: Piece): readonly Piece[] {
  const { array, from, count } = piece;
  if (array === null) return [piece];
  if (array.node.layout.kind === 'null') return [nulls(count)];
  if (array.dictionary === null) return [piece];
  return Array.from({ length: count }, (_, i) => {
    const entry = isValidAt(array.validity, from + i) ? dictionaryEntry(array, from + i) : null;
    return entry === null ? nulls(1) : { array: entry.chunk, from: entry.row, count: 1 };
  }).flatMap(plainPieces);
}

const nullCountOf = ({ array, from, count }: Piece): number =>
  array === null ? count : array.validity === null ? 0 : countZeros(array.validity, from, count);

/**
 * Node and buffers of the joined column. `node` and what is below it have no dictionaries. `isPositional`: members of a
 * struct go by their place, as those of a map's entries, whose names are free.
 * @throws CastError naming both types, or the value that does not fit
 */
export function joinInto(sink: BatchSink, node: Node, given: readonly Piece[], isPositional = false): void {
  const pieces = given.flatMap(plainPieces);
  const rows = rowsOf(pieces);
  const { kind } = node.layout;
  const nullCount = pieces.reduce((sum, piece) => sum + nullCountOf(piece), 0);
  sink.node(rows, nullCount);
  if (kind === 'null') {
    const other = pieces.find(({ array }) => array !== null);
    if (other?.array) refuseCast(other.array.node.type, node.type);
    return;
  }
  sink.buffer(nullCount === 0 ? noBytes() : bitsOf(pieces, rows, validityOf));
  if (kind === 'bool') boolInto(sink, node, pieces, rows);
  else if (kind === 'fixed') fixedInto(sink, node, pieces, rows);
  else if (kind === 'bytes') bytesInto(sink, node, pieces, rows);
  else if (kind === 'list') listInto(sink, node, pieces, rows);
  else if (kind === 'fixed_list') fixedListInto(sink, node, pieces);
  else structInto(sink, node, pieces, isPositional);
}

type Bits = { readonly bits: Uint8Array | null; readonly isSet: boolean };
const validityOf = ({ array }: Piece): Bits =>
  array === null ? { bits: null, isSet: false } : { bits: array.validity, isSet: true };

/** One bitmap of many; a piece without bits is all set or all clear. */
function bitsOf(pieces: readonly Piece[], rows: number, ofPiece: (piece: Piece) => Bits): Uint8Array {
  const out = new Uint8Array((rows + 7) >> 3);
  let at = 0;
  for (const piece of pieces) {
    const { bits, isSet } = ofPiece(piece);
    if (bits !== null || isSet)
      for (let i = 0; i < piece.count; i++, at++) {
        if (isValidAt(bits, piece.from + i)) out[at >> 3]! |= 1 << (at & 7);
      }
    else at += piece.count;
  }
  return out;
}

const filled = (pieces: readonly Piece[]): readonly Filled[] =>
  pieces.filter((piece): piece is Filled => piece.array !== null);

function boolInto(sink: BatchSink, node: Node, pieces: readonly Piece[], rows: number): void {
  for (const { array } of filled(pieces))
    if (array.node.type !== 'bool') refuseCast(array.node.type, node.type);
  sink.buffer(bitsOf(pieces, rows, ({ array }) => ({ bits: array?.values ?? null, isSet: false })));
}

function fixedInto(sink: BatchSink, node: Node, pieces: readonly Piece[], rows: number): void {
  const { width } = node.layout;
  const parts = pieces.map(({ array, from, count }) => {
    if (array === null) return null;
    if (sameType(array.node.type, node.type))
      return array.values.subarray(from * width, (from + count) * width);
    if (array.node.layout.kind !== 'fixed') return refuseCast(array.node.type, node.type);
    return castFixed(array, from, count, node.type);
  });
  if (parts.length === 1 && parts[0]) {
    sink.buffer(parts[0]);
    return;
  }
  const out = new Uint8Array(rows * width);
  let at = 0;
  pieces.forEach(({ count }, i) => {
    const part = parts[i];
    if (part) out.set(part, at);
    at += count * width;
  });
  sink.buffer(out);
}

/** Offsets that grow piece by piece; `wide`: of 64 bits. */
class Offsets {
  readonly #out: Uint32Array;
  readonly #wide: boolean;
  #row = 0;
  #end = 0;

  constructor(rows: number, wide: boolean) {
    this.#wide = wide;
    this.#out = new Uint32Array((rows + 1) * (wide ? 2 : 1));
  }

  add(length: number): void {
    this.#row += 1;
    this.#end += length;
    if (this.#wide) {
      this.#out[this.#row * 2] = this.#end;
      this.#out[this.#row * 2 + 1] = Math.floor(this.#end / 4294967296);
    } else this.#out[this.#row] = this.#end;
  }

  addEmpty(rows: number): void {
    for (let i = 0; i < rows; i++) this.add(0);
  }

  bytes(type: TypeJson): Uint8Array {
    if (!this.#wide && this.#end > 2 ** 31 - 1)
      throw new CastError(
        `${this.#end} bytes or items do not fit ${typeText(type)}; a large_ type holds them`,
      );
    return new Uint8Array(this.#out.buffer);
  }
}

function bytesInto(sink: BatchSink, node: Node, pieces: readonly Piece[], rows: number): void {
  const offsets = new Offsets(rows, node.layout.width === 8);
  const chunks: Uint8Array[] = [];
  for (const piece of pieces) {
    if (piece.array === null) offsets.addEmpty(piece.count);
    else valuesInto(chunks, offsets, piece as Filled, node.type);
  }
  sink.buffer(offsets.bytes(node.type));
  sink.buffer(chunks.length === 1 ? chunks[0]! : new Uint8Array(Buffer.concat(chunks)));
}

function valuesInto(chunks: Uint8Array[], offsets: Offsets, piece: Filled, to: TypeJson): void {
  const { array, from, count } = piece;
  const { kind, width } = array.node.layout;
  if (to === 'json' && !array.node.layout.text) {
    jsonInto(chunks, offsets, piece);
    return;
  }
  if (!castsTo(array.node.type, to)) refuseCast(array.node.type, to);
  if (kind === 'fixed') {
    chunks.push(array.values.subarray(from * width, (from + count) * width));
    for (let i = 0; i < count; i++) offsets.add(width);
    return;
  }
  chunks.push(array.values.subarray(offsetAt(array, from), offsetAt(array, from + count)));
  for (let row = from; row < from + count; row++)
    offsets.add(offsetAt(array, row + 1) - offsetAt(array, row));
}

function jsonInto(chunks: Uint8Array[], offsets: Offsets, { array, from, count }: Filled): void {
  const write = textOf(array);
  for (let row = from; row < from + count; row++) {
    const text = Buffer.from(isValidAt(array.validity, row) ? write(row) : '');
    chunks.push(text);
    offsets.add(text.length);
  }
}

const isMap = (type: TypeJson): boolean => typeof type !== 'string' && 'map' in type;

function listInto(sink: BatchSink, node: Node, pieces: readonly Piece[], rows: number): void {
  const offsets = new Offsets(rows, node.layout.width === 8);
  const below: Piece[] = [];
  for (const { array, from, count } of pieces) {
    if (array === null) {
      offsets.addEmpty(count);
      continue;
    }
    const { kind, width } = array.node.layout;
    if ((kind !== 'list' && kind !== 'fixed_list') || isMap(array.node.type) !== isMap(node.type))
      refuseCast(array.node.type, node.type);
    const at = kind === 'list' ? (row: number) => offsetAt(array, row) : (row: number) => row * width;
    for (let row = from; row < from + count; row++) offsets.add(at(row + 1) - at(row));
    below.push({ array: array.children[0]!, from: at(from), count: at(from + count) - at(from) });
  }
  sink.buffer(offsets.bytes(node.type));
  joinInto(sink, node.children[0]!, below, isMap(node.type));
}

function fixedListInto(sink: BatchSink, node: Node, pieces: readonly Piece[]): void {
  const { width } = node.layout;
  const below = pieces.flatMap((piece): readonly Piece[] => {
    const { array, from, count } = piece;
    if (array === null) return [nulls(count * width)];
    const { layout, type } = array.node;
    if (layout.kind === 'list' && !isMap(type)) return itemsOf(piece as Filled, width, node.type);
    if (layout.kind !== 'fixed_list' || layout.width !== width) return refuseCast(type, node.type);
    return [{ array: array.children[0]!, from: from * width, count: count * width }];
  });
  joinInto(sink, node.children[0]!, below);
}

/** Lists that turn out to have `width` items each. */
function itemsOf({ array, from, count }: Filled, width: number, to: TypeJson): readonly Piece[] {
  const items = array.children[0]!;
  const rows = Array.from({ length: count }, (_, i): Piece => {
    if (!isValidAt(array.validity, from + i)) return nulls(width);
    const start = offsetAt(array, from + i);
    const length = offsetAt(array, from + i + 1) - start;
    if (length !== width) throw new CastError(`a list of ${length} items does not fit ${typeText(to)}`);
    return { array: items, from: start, count: width };
  });
  const isWhole = rows.every((piece) => piece.array !== null);
  return isWhole && rows.length > 0 ? [{ array: items, from: rows[0]!.from, count: count * width }] : rows;
}

function structInto(sink: BatchSink, node: Node, pieces: readonly Piece[], isPositional: boolean): void {
  node.children.forEach((child, at) => {
    const below = pieces.map(({ array, from, count }): Piece => {
      if (array === null) return nulls(count);
      const { children, node: source } = array;
      if (source.layout.kind !== 'struct' || children.length !== node.children.length)
        return refuseCast(source.type, node.type);
      const member = isPositional ? children[at] : children.find((one) => one.node.name === child.name);
      return member ? { array: member, from, count } : refuseCast(source.type, node.type);
    });
    joinInto(sink, child, below);
  });
}
