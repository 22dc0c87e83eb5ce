/**
 * Tables of the apache-arrow package, of any version and any copy: their buffers are read where they lie, by the members that
 * all versions have. Nothing of the package is imported, since a copy takes no objects of another one's classes.
 */
import { type ArrayData, type Node, noBytes, nodesOf, shiftBits } from '../shared/arrow/array-node.ts';
import { BARE_TYPES, schemaMessage } from '../shared/arrow/schema-message.ts';
import type { SliceSource } from '../shared/arrow/stream-slice.ts';
import { TIME_UNITS } from '../shared/arrow/type-text.ts';
import type { FieldJson, TypeJson } from '../shared/domain/function.ts';
import { SluiceError } from '../shared/errors/sluice-error.ts';

/** What a caller's compiler needs to know a table by. */
export type ApacheTable = {
  readonly numRows: number;
  readonly batches: readonly unknown[];
  readonly schema: { readonly fields: readonly unknown[] };
};

type Metadata = ReadonlyMap<string, string>;
type Field = {
  readonly name: string;
  readonly nullable: boolean;
  readonly type: Type;
  readonly metadata?: Metadata | null;
};
type Type = {
  /** The number of the format's union `Type`; −1 for dictionaries. */
  readonly typeId: number;
  readonly children?: readonly Field[] | null;
  readonly isSigned: boolean;
  readonly bitWidth: number;
  readonly precision: number;
  readonly scale: number;
  readonly unit: number;
  readonly timezone?: string | null;
  readonly byteWidth: number;
  readonly listSize: number;
  readonly indices: Type;
  readonly dictionary: Type;
  readonly isOrdered: boolean;
};
type Data = {
  readonly length: number;
  /** Of the bits in `nullBitmap` and in the values of booleans; all other buffers begin with the first row. */
  readonly offset: number;
  readonly nullCount: number;
  readonly nullBitmap?: Uint8Array;
  readonly valueOffsets?: Int32Array | BigInt64Array;
  readonly values?: ArrayBufferView;
  readonly children: readonly Data[];
  readonly dictionary?: { readonly data: readonly Data[] };
};
type Table = {
  readonly numRows: number;
  readonly schema: { readonly fields: readonly Field[]; readonly metadata?: Metadata };
  readonly batches: readonly { readonly numRows: number; readonly data: Data }[];
};

const childOf = ({ children }: Type): FieldJson => fieldJson(children![0]!);

/** By number; the types that are missing are those that no function takes. */
const PARAMETRIC: Readonly<Record<number, (type: Type, name: string) => TypeJson>> = {
  [-1]: ({ dictionary, indices, isOrdered }, name) => ({
    dictionary: typeJson(dictionary, name),
    index: intType(indices),
    ordered: isOrdered,
  }),
  2: (type) => intType(type),
  3: ({ precision }) => ['float16', 'float32', 'float64'][precision]!,
  7: ({ precision, scale, bitWidth }) => ({ decimal: [precision, scale], bits: bitWidth as 128 | 256 }),
  8: ({ unit }) => ['date32', 'date64'][unit]!,
  9: ({ unit }) => ({ time: TIME_UNITS[unit]! }),
  10: ({ unit, timezone }) => ({ timestamp: TIME_UNITS[unit]!, tz: timezone || null }),
  12: (type) => ({ list: childOf(type) }),
  13: ({ children }) => ({ struct: children!.map(fieldJson) }),
  15: ({ byteWidth }) => ({ fixed_size_binary: byteWidth }),
  16: (type) => ({ fixed_size_list: childOf(type), size: type.listSize }),
  17: ({ children }) => {
    const [key, value] = children![0]!.type.children!;
    return { map: [fieldJson(key!), fieldJson(value!)] };
  },
  18: ({ unit }) => ({ duration: TIME_UNITS[unit]! }),
  21: (type) => ({ large_list: childOf(type) }),
};

const intType = ({ isSigned, bitWidth }: Type): string => `${isSigned ? '' : 'u'}int${bitWidth}`;

const typeJson = (type: Type, name: string): TypeJson => {
  const json = BARE_TYPES[type.typeId] ?? PARAMETRIC[type.typeId]?.(type, name);
  if (json !== undefined) return json;
  throw new SluiceError(
    'invalid_arrow',
    `field "${name}" has the type ${type}, which is not supported; cast it first`,
    { field: name },
  );
};

const fieldJson = ({ name, type, nullable }: Field): FieldJson => ({
  name,
  type: typeJson(type, name),
  nullable,
});

/** With the metadata of the fields of all levels, which name extension types. */
const withMetadata = (node: Node, { type, metadata }: Field): Node => {
  const { children } = type.typeId === -1 ? type.dictionary : type;
  const below = (inner: Node): readonly Node[] =>
    inner.children.map((child, i) => withMetadata(child, children![i]!));
  const { dictionary } = node;
  return {
    ...node,
    children: below(node),
    dictionary: dictionary && {
      ...dictionary,
      values: { ...dictionary.values, children: below(dictionary.values) },
    },
    ...(metadata ? { metadata } : {}),
  };
};

const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

const wordsOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint32Array =>
  new Uint32Array(buffer, byteOffset, byteLength >> 2);

/** Makes arrays of their buffers, uncopied; those of a dictionary once, so that it goes once for all batches. */
class ArrayMaker {
  readonly #chunks = new WeakMap<Data, ArrayData>();

  array(node: Node, data: Data): ArrayData {
    const { length, offset, nullCount, nullBitmap, valueOffsets, values, children, dictionary } = data;
    const isBits = node.layout.kind === 'bool';
    return {
      node,
      length,
      nullCount: node.layout.kind === 'null' ? length : Math.max(0, nullCount),
      validity: nullCount > 0 && nullBitmap ? shiftBits(nullBitmap, offset, length) : null,
      offsets: offsetsOf(node, valueOffsets),
      values: !values ? noBytes() : isBits ? shiftBits(bytesOf(values), offset, length) : bytesOf(values),
      children: node.children.map((child, i) => this.array(child, children[i]!)),
      dictionary: node.dictionary && this.#dictionary(node.dictionary.values, dictionary?.data ?? []),
    };
  }

  #dictionary(values: Node, data: readonly Data[]): ArrayData['dictionary'] {
    const chunks = data.map((chunk) => {
      const array = this.#chunks.get(chunk) ?? this.array(values, chunk);
      this.#chunks.set(chunk, array);
      return array;
    });
    return { chunks, length: chunks.reduce((sum, { length }) => sum + length, 0) };
  }
}

const offsetsOf = ({ layout }: Node, given: Data['valueOffsets']): Uint32Array | null => {
  if (layout.kind !== 'bytes' && layout.kind !== 'list') return null;
  return given && given.length > 0 ? wordsOf(given) : new Uint32Array(layout.width / 4);
};

/**
 * The table's rows, uncopied.
 * @throws SluiceError `invalid_arrow` naming a type that is not supported
 */
export const apacheRows = (table: ApacheTable): SliceSource => {
  const { schema, batches, numRows } = table as unknown as Table;
  const nodes = nodesOf(schema.fields.map(fieldJson)).map((node, i) => withMetadata(node, schema.fields[i]!));
  const maker = new ArrayMaker();
  let from = 0;
  const rows = batches.map((batch) => {
    const columns = nodes.map((node, i) => maker.array(node, batch.data.children[i]!));
    from += batch.numRows;
    return { from: from - batch.numRows, rows: batch.numRows, columns };
  });
  return { schemaMessage: schemaMessage(nodes, schema.metadata), nodes, rows: numRows, batches: rows };
};
