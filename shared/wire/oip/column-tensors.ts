/** A call's answers as tensors: the buffers of its output joined, never a value of its own for each row. */
import { type ArrayData, isValidAt, nodesOf, offsetAt } from '../../arrow/array-node.ts';
import { BatchSink, joinBytes } from '../../arrow/batch-sink.ts';
import { joinInto, type Piece } from '../../arrow/column-join.ts';
import { END_OF_STREAM } from '../../arrow/message-frame.ts';
import { schemaMessage } from '../../arrow/schema-message.ts';
import { openStream } from '../../arrow/stream.ts';
import { batchRanges } from '../../arrow/stream-slice.ts';
import { textOf } from '../../arrow/value-text.ts';
import type { FieldJson, TypeJson } from '../../domain/function.ts';
import { SluiceError } from '../../errors/sluice-error.ts';
import { DATATYPES, datatypeOf, nestedOf } from './datatypes.ts';
import type { Tensor, TensorValues } from './tensor.ts';

/** Rows of an output stream, in the order of the answer. */
export type OutputRun = { readonly bytes: Uint8Array; readonly outputRow: number; readonly count: number };

export type Output = { readonly type: TypeJson; readonly nullable: boolean };

/** One array, and the rows of it that are the answer. */
type Rows = { readonly array: ArrayData; readonly from: number; readonly count: number };

const unsayable = (name: string, what: string): never => {
  throw new SluiceError(
    'not_acceptable',
    `output ${JSON.stringify(name)} ${what}; a tensor cannot say that: ask POST /v1/functions/NAME/calls for it`,
    { field: name },
  );
};

type Struct = { readonly struct: readonly FieldJson[] };
const isStruct = (type: TypeJson): type is Struct =>
  typeof type !== 'string' && 'struct' in type && type.struct.length > 0;

/** The tensors that a function answers with: one called `name`, or the members of a struct. */
export const outputFields = ({ type, nullable }: Output, name = 'result'): readonly FieldJson[] =>
  isStruct(type) ? type.struct : [{ name, type, nullable }];

/**
 * @param wanted names of tensors; null: all
 * @throws SluiceError `not_acceptable` naming the tensor and the row that is null, or whose list is longer or shorter
 */
export const outputTensors = (
  runs: readonly OutputRun[],
  output: Output,
  wanted: ReadonlySet<string> | null,
): readonly Tensor[] => {
  const rows = joined(runs, output);
  const fields = outputFields(output);
  const hasMembers = isStruct(output.type);
  if (hasMembers) refuseNulls(rows, 'result', 1);
  return fields.flatMap((field, i) => {
    if (wanted !== null && !wanted.has(field.name)) return [];
    return [tensorOf(field, hasMembers ? { ...rows, array: rows.array.children[i]! } : rows)];
  });
};

/**
 * Columns of a verified stream of one batch without dictionaries (`joinedStream`) as tensors.
 * @throws SluiceError `not_acceptable` as for outputs
 */
export const columnTensors = (bytes: Uint8Array): readonly Tensor[] => {
  const { fields, batches } = openStream(bytes);
  const [batch] = batches;
  return fields.map((field, i) =>
    tensorOf(field, { array: batch!.columns[i]!, from: 0, count: batch!.rows }),
  );
};

/** Dictionaries as their values; a single run that has none goes as it lies. */
const joined = (runs: readonly OutputRun[], output: Output): Rows => {
  const pieces = runs.flatMap(({ bytes, outputRow, count }) =>
    batchRanges(openStream(bytes), outputRow, count).map(
      ({ batch, first, count: rows }): Piece => ({ array: batch.columns[0]!, from: first, count: rows }),
    ),
  );
  if (pieces.length === 1 && !hasDictionary(output.type)) return pieces[0] as Rows;
  const nodes = nodesOf([{ name: 'result', type: plain(output.type), nullable: true }]);
  const sink = new BatchSink();
  joinInto(sink, nodes[0]!, pieces);
  const count = pieces.reduce((sum, piece) => sum + piece.count, 0);
  const bytes = joinBytes([schemaMessage(nodes), ...sink.batch(count), END_OF_STREAM]);
  return { array: openStream(bytes).batches[0]!.columns[0]!, from: 0, count };
};

const hasDictionary = (type: TypeJson): boolean => JSON.stringify(type).includes('"dictionary"');

const plainField = (field: FieldJson): FieldJson => ({ ...field, type: plain(field.type) });
const plain = (type: TypeJson): TypeJson => {
  if (typeof type === 'string') return type;
  if ('dictionary' in type) return plain(type.dictionary);
  if ('list' in type) return { list: plainField(type.list) };
  if ('large_list' in type) return { large_list: plainField(type.large_list) };
  if ('fixed_size_list' in type) return { ...type, fixed_size_list: plainField(type.fixed_size_list) };
  if ('struct' in type) return { struct: type.struct.map(plainField) };
  return 'map' in type ? { map: [plainField(type.map[0]), plainField(type.map[1])] } : type;
};

const tensorOf = (field: FieldJson, given: Rows): Tensor => {
  const { name } = field;
  const { leaf, sizes } = nestedOf(field.type);
  const shape = [given.count];
  let rows = given;
  let perRow = 1;
  for (const fixed of sizes) {
    refuseNulls(rows, name, perRow);
    const size = fixed ?? equalLength(rows, name, perRow);
    rows = itemsOf(rows, size);
    perRow *= size;
    shape.push(size);
  }
  refuseNulls(rows, name, perRow);
  const datatype = datatypeOf(leaf);
  return { name, datatype, shape, values: datatype === 'BYTES' ? bytesOf(rows) : fixedOf(rows, leaf) };
};

const refuseNulls = ({ array, from, count }: Rows, name: string, perRow: number): void => {
  const { validity } = array;
  const isNull = array.node.layout.kind === 'null';
  if (validity === null && !isNull) return;
  for (let i = 0; i < count; i += 1)
    if (isNull || !isValidAt(validity, from + i))
      unsayable(name, `is null${perRow > 1 ? ' in a list' : ''} in row ${Math.floor(i / perRow)}`);
};

/** What all lists have as their length; of no lists, 0. */
const equalLength = ({ array, from, count }: Rows, name: string, perRow: number): number => {
  if (count === 0) return 0;
  const lengthOf = (i: number): number => offsetAt(array, from + i + 1) - offsetAt(array, from + i);
  const first = lengthOf(0);
  for (let i = 1; i < count; i += 1)
    if (lengthOf(i) !== first)
      unsayable(name, `has lists of ${first} and, in row ${Math.floor(i / perRow)}, of ${lengthOf(i)} items`);
  return first;
};

const itemsOf = ({ array, from, count }: Rows, size: number): Rows => ({
  array: array.children[0]!,
  from: array.node.layout.kind === 'fixed_list' ? from * size : offsetAt(array, from),
  count: count * size,
});

const fixedOf = ({ array, from, count }: Rows, leaf: TypeJson): TensorValues => {
  if (array.node.layout.kind === 'bool') {
    const bytes = new Uint8Array(count);
    for (let i = 0; i < count; i += 1) bytes[i] = isValidAt(array.values, from + i) ? 1 : 0;
    return { kind: 'fixed', bytes };
  }
  const width = DATATYPES[datatypeOf(leaf)].bytes;
  return { kind: 'fixed', bytes: array.values.subarray(from * width, (from + count) * width) };
};

const bytesOf = ({ array, from, count }: Rows): TensorValues => {
  const { kind } = array.node.layout;
  if (kind !== 'bytes') return textsOf({ array, from, count });
  const start = offsetAt(array, from);
  const offsets = new Uint32Array(count + 1);
  for (let i = 1; i <= count; i += 1) offsets[i] = offsetAt(array, from + i) - start;
  return { kind: 'bytes', offsets, data: array.values.subarray(start, start + offsets[count]!) };
};

/** Of what no tensor has, the text that a JSON answer has; of a fixed-size binary, its bytes. */
const textsOf = ({ array, from, count }: Rows): TensorValues => {
  const { type, layout } = array.node;
  const offsets = new Uint32Array(count + 1);
  if (typeof type !== 'string' && 'fixed_size_binary' in type) {
    for (let i = 1; i <= count; i += 1) offsets[i] = i * layout.width;
    return {
      kind: 'bytes',
      offsets,
      data: array.values.subarray(from * layout.width, (from + count) * layout.width),
    };
  }
  const write = textOf(array);
  const chunks: Buffer[] = [];
  for (let i = 0; i < count; i += 1) {
    const text = write(from + i);
    const chunk = Buffer.from(text.startsWith('"') ? (JSON.parse(text) as string) : text);
    chunks.push(chunk);
    offsets[i + 1] = offsets[i]! + chunk.length;
  }
  return { kind: 'bytes', offsets, data: Buffer.concat(chunks) };
};

/** Name, datatype and shape as model metadata has them; -1 where it is any. */
export const tensorMetadata = ({ name, type }: FieldJson) => {
  const { leaf, sizes } = nestedOf(type);
  return { name, datatype: datatypeOf(leaf), shape: [-1, ...sizes.map((size) => size ?? -1)] };
};
