/** Turns a batch's field nodes and buffers into arrays, and checks all that their types promise. */
import { isAscii, isUtf8 } from 'node:buffer';
import {
  type ArrayData,
  countZeros,
  type Dictionary,
  isValidAt,
  type Node,
  noBytes,
  offsetAt,
} from './array-node.ts';
import { invalid } from './flat-table.ts';
import { typeText } from './type-text.ts';

/**
 * Rows that no buffer backs (nulls, empty structs) cost a sender nothing, so an array may have as many rows as the
 * stream has bits, or this many.
 */
const BARE_ROWS_MAX = 2 ** 20;

export type BatchSource = {
  readonly bytes: Uint8Array;
  /** Where the body begins in `bytes`, and its length. */
  readonly bodyStart: number;
  readonly bodyBytes: number;
  readonly nodes: readonly number[];
  readonly regions: readonly number[];
  readonly dictionaries: ReadonlyMap<number, Dictionary>;
  /** Begins every error, such as 'message 2'. */
  readonly where: string;
  /** False for streams that passed here before: their values are not looked at again. */
  readonly checkValues: boolean;
};

type Found = { length: number; nullCount: number; validity: Uint8Array | null };

export class ArrayReader {
  readonly #source: BatchSource;
  readonly #rowsMax: number;
  #used = 0;
  #node = 0;
  #region = 0;

  constructor(source: BatchSource) {
    this.#source = source;
    this.#rowsMax = Math.max(BARE_ROWS_MAX, source.bytes.length * 8);
  }

  #fail(path: string, what: string): never {
    return invalid(`${this.#source.where}, column ${path}: ${what}`);
  }

  /** The arrays of a batch of `rows` rows. */
  columns(nodes: readonly Node[], rows: number): readonly ArrayData[] {
    const { nodes: found, regions, where } = this.#source;
    if (rows > this.#rowsMax) invalid(`${where}: it claims ${rows} rows, more than its bytes can hold`);
    const columns = nodes.map((node) => {
      const array = this.#read(node, `"${node.name}"`);
      if (array.length !== rows)
        this.#fail(`"${node.name}"`, `it has ${array.length} rows, the batch ${rows}`);
      return array;
    });
    if (this.#node !== found.length)
      invalid(`${where}: it has ${found.length / 2} field nodes, the schema needs ${this.#node / 2}`);
    if (this.#region !== regions.length)
      invalid(`${where}: it has ${regions.length / 2} buffers, the schema needs ${this.#region / 2}`);
    return columns;
  }

  #read(node: Node, path: string): ArrayData {
    const found = this.#found(node, path);
    const { kind, width } = node.layout;
    if (kind === 'null') return this.#array(node, { ...found, nullCount: found.length, validity: null });
    this.#checkValidity(found, path);
    if (kind === 'struct' || kind === 'fixed_list') return this.#nested(node, found, path);
    if (kind === 'list') return this.#list(node, found, path);
    if (kind === 'bytes') return this.#variable(node, found, path);
    const bytes = kind === 'bool' ? (found.length + 7) >> 3 : found.length * width;
    const values = this.#buffer(path, 'values', bytes);
    return node.dictionary === null
      ? this.#array(node, found, { values })
      : this.#encoded(node, found, values, path);
  }

  /** The next field node. */
  #found(node: Node, path: string): Found {
    const { nodes } = this.#source;
    const at = this.#node;
    this.#node += 2;
    if (at >= nodes.length) this.#fail(path, 'its field node is missing');
    const [length, nullCount] = [nodes[at]!, nodes[at + 1]!];
    if (length > this.#rowsMax) this.#fail(path, `it claims ${length} rows, more than the stream can hold`);
    if (nullCount > length && node.layout.kind !== 'null')
      this.#fail(path, `it claims ${nullCount} nulls in ${length} rows`);
    return { length, nullCount, validity: null };
  }

  /** The next buffer; `needed` bytes of it are used. */
  #buffer(path: string, what: string, needed: number): Uint8Array {
    const { regions, bytes, bodyStart, bodyBytes } = this.#source;
    const at = this.#region;
    this.#region += 2;
    if (at >= regions.length) this.#fail(path, `its ${what} buffer is missing`);
    const [offset, length] = [regions[at]!, regions[at + 1]!];
    if (offset + length > bodyBytes)
      this.#fail(
        path,
        `its ${what} buffer (${offset} + ${length}) ends outside the body of ${bodyBytes} bytes`,
      );
    this.#used += length;
    // The format's rule, which other readers insist on.
    if (length > 0 && offset % 8 !== 0)
      this.#fail(path, `its ${what} buffer begins at ${offset}, which is no multiple of 8`);
    // Columns that share their bytes would let a small stream cost the time of a huge one.
    if (this.#used > bodyBytes) this.#fail(path, `its ${what} buffer overlaps others`);
    if (length < needed) this.#fail(path, `its ${what} buffer has ${length} bytes, ${needed} are needed`);
    return length === 0 ? noBytes() : bytes.subarray(bodyStart + offset, bodyStart + offset + length);
  }

  #checkValidity(found: Found, path: string): void {
    const { regions } = this.#source;
    const absent = regions[this.#region + 1] === 0;
    const bitmap = this.#buffer(path, 'validity', absent ? 0 : (found.length + 7) >> 3);
    if (absent && found.nullCount > 0)
      this.#fail(path, `it claims ${found.nullCount} nulls and has no validity buffer`);
    if (absent || !this.#source.checkValues) {
      found.validity = found.nullCount > 0 ? bitmap : null;
      return;
    }
    const nulls = countZeros(bitmap, 0, found.length);
    if (nulls !== found.nullCount) this.#fail(path, `it claims ${found.nullCount} nulls and has ${nulls}`);
    found.validity = nulls > 0 ? bitmap : null;
  }

  #array(node: Node, found: Found, parts: Partial<ArrayData> = {}): ArrayData {
    return {
      node,
      length: found.length,
      nullCount: found.nullCount,
      validity: found.validity,
      offsets: parts.offsets ?? null,
      values: parts.values ?? noBytes(),
      children: parts.children ?? [],
      dictionary: parts.dictionary ?? null,
    };
  }

  #nested(node: Node, found: Found, path: string): ArrayData {
    const needed = node.layout.kind === 'struct' ? found.length : found.length * node.layout.width;
    const children = node.children.map((child) => this.#child(child, needed, path));
    return this.#array(node, found, { children });
  }

  #child(node: Node, needed: number, path: string): ArrayData {
    const at = `${path}.${node.name}`;
    const child = this.#read(node, at);
    if (child.length < needed) this.#fail(at, `it has ${child.length} values, its parent needs ${needed}`);
    return child;
  }

  #list(node: Node, found: Found, path: string): ArrayData {
    const offsets = this.#offsets(node, found, path);
    const end = lastOffset(node, offsets, found.length);
    const children = [this.#child(node.children[0]!, end, path)];
    return this.#array(node, found, { offsets, children });
  }

  #offsets(node: Node, found: Found, path: string): Uint32Array {
    const { width } = node.layout;
    const needed = found.length === 0 ? 0 : (found.length + 1) * width;
    const raw = this.#buffer(path, 'offsets', needed);
    // An empty array may come without its single offset.
    if (raw.length < width) return new Uint32Array(width / 4);
    const used = found.length === 0 ? width : needed;
    const offsets = wordsOf(raw, used);
    if (this.#source.checkValues) this.#checkOffsets(offsets, width === 8, found.length, path);
    return offsets;
  }

  #checkOffsets(offsets: Uint32Array, wide: boolean, length: number, path: string): void {
    let before = 0;
    for (let i = 0; i <= length; i++) {
      const offset = wide ? offsets[i * 2]! + offsets[i * 2 + 1]! * 4294967296 : offsets[i]!;
      // A negative offset reads as a huge one here and fails at its buffer's end, or is followed by a smaller one.
      if (offset < before)
        this.#fail(path, `offset ${i} (${offset}) is less than the one before it (${before})`);
      before = offset;
    }
  }

  #variable(node: Node, found: Found, path: string): ArrayData {
    const offsets = this.#offsets(node, found, path);
    const values = this.#buffer(path, 'data', lastOffset(node, offsets, found.length));
    const array = this.#array(node, found, { offsets, values });
    if (node.layout.text && this.#source.checkValues) this.#checkText(array, path);
    return array;
  }

  /** UTF-8 as a whole with characters that end at every offset, or value by value where a null hides other bytes. */
  #checkText(array: ArrayData, path: string): void {
    const { length, values } = array;
    const used = values.subarray(offsetAt(array, 0), offsetAt(array, length));
    if (used.length === 0 || isAscii(used)) return;
    if (isUtf8(used) && this.#endsOnCharacters(array)) return;
    for (let i = 0; i < length; i++) {
      if (!isValidAt(array.validity, i)) continue;
      if (!isUtf8(values.subarray(offsetAt(array, i), offsetAt(array, i + 1))))
        this.#fail(path, `row ${i} is not valid UTF-8`);
    }
  }

  #endsOnCharacters(array: ArrayData): boolean {
    const { values, length } = array;
    const end = offsetAt(array, length);
    for (let i = 0; i < length; i++) {
      const at = offsetAt(array, i);
      if (at < end && (values[at]! & 0xc0) === 0x80) return false;
    }
    return true;
  }

  #encoded(node: Node, found: Found, values: Uint8Array, path: string): ArrayData {
    const id = node.dictionary!.id;
    const known = this.#source.dictionaries.get(id) ?? null;
    // A batch of nothing but nulls may come without its dictionary.
    if (known === null && found.nullCount < found.length)
      this.#fail(path, `its dictionary ${id} has not come yet`);
    const dictionary = known ?? { chunks: [], length: 0 };
    const array = this.#array(node, found, { values, dictionary });
    if (this.#source.checkValues) this.#checkIndices(array, dictionary.length, path);
    return array;
  }

  #checkIndices(array: ArrayData, limit: number, path: string): void {
    for (let i = 0; i < array.length; i++) {
      if (!isValidAt(array.validity, i)) continue;
      const index = indexAt(array, i);
      if (index < 0 || index >= limit)
        this.#fail(
          path,
          `row ${i} has dictionary index ${index} of ${limit} values (${typeText(array.node.type)})`,
        );
    }
  }
}

const lastOffset = (node: Node, offsets: Uint32Array, length: number): number =>
  node.layout.width === 4 ? offsets[length]! : offsets[length * 2]! + offsets[length * 2 + 1]! * 4294967296;

/** `length` bytes as little-endian words; copied only where the bytes are not aligned. */
function wordsOf(raw: Uint8Array, length: number): Uint32Array {
  if ((raw.byteOffset & 3) === 0) return new Uint32Array(raw.buffer, raw.byteOffset, length >> 2);
  return new Uint32Array(raw.slice(0, length).buffer, 0, length >> 2);
}

/** Dictionary index of row `row`, as a number; 64-bit ones above 2^53 are out of any range anyway. */
export function indexAt(array: ArrayData, row: number): number {
  const { values, node } = array;
  const { width } = node.layout;
  const signed = !(node.type as { readonly index: string }).index.startsWith('u');
  const at = row * width;
  if (width === 1) return signed ? (values[at]! << 24) >> 24 : values[at]!;
  const low = values[at]! | (values[at + 1]! << 8);
  if (width === 2) return signed ? (low << 16) >> 16 : low;
  const word = low | (values[at + 2]! << 16) | (values[at + 3]! << 24);
  if (width === 4) return signed ? word : word >>> 0;
  const high = values[at + 4]! | (values[at + 5]! << 8) | (values[at + 6]! << 16) | (values[at + 7]! << 24);
  return (signed ? high : high >>> 0) * 4294967296 + (word >>> 0);
}
