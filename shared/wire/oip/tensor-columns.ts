/** Tensors as the columns of a call: by their buffers wherever the function's types are a tensor's, by values else. */
import { isUtf8 } from 'node:buffer';
import { isValidAt, type Node, noBytes, nodesOf } from '../../arrow/array-node.ts';
import { BatchSink, joinBytes } from '../../arrow/batch-sink.ts';
import { exactJson } from '../../arrow/exact-json.ts';
import { settled } from '../../arrow/exact-values.ts';
import { castsTo, matchInputs } from '../../arrow/input-match.ts';
import { END_OF_STREAM } from '../../arrow/message-frame.ts';
import { schemaMessage } from '../../arrow/schema-message.ts';
import { openStream } from '../../arrow/stream.ts';
import { typeText } from '../../arrow/type-text.ts';
import { buildInto } from '../../arrow/value-builder.ts';
import { checkOf, explain } from '../../arrow/value-check.ts';
import type { FieldJson, TypeJson } from '../../domain/function.ts';
import { SluiceError } from '../../errors/sluice-error.ts';
import { DATATYPES, datatypeOf, type Nested, nestedOf } from './datatypes.ts';
import { type NumberDatatype, numbersOf } from './number-arrays.ts';
import { refuseInput, rowsOf, shapeText, type Tensor } from './tensor.ts';
import { elementBytes } from './tensor-input.ts';

/** A verified Arrow stream of one batch. `schemaKey` as `matchInputs` gives it. */
export type TensorRows = { readonly rows: number; readonly bytes: Uint8Array; readonly schemaKey: string };

type Column = {
  readonly field: FieldJson;
  readonly write: (sink: BatchSink, node: Node, prelude: Uint8Array[]) => void;
};

const listed = (inputs: readonly FieldJson[]): string =>
  inputs.map(({ name, type }) => `${JSON.stringify(name)} ${typeText(type)}`).join(', ') || 'none';

/**
 * The rows of a request. Tensors are matched to the inputs by name, a single one to a single input by its place; null inputs take
 * any. Only casts that lose nothing are made.
 * @throws SluiceError `invalid_request`, `schema_mismatch` naming the input
 */
export const tensorRows = (tensors: readonly Tensor[], inputs: readonly FieldJson[] | null): TensorRows => {
  if (tensors.length === 0) mismatch('the request has no inputs; send at least one tensor', 'inputs');
  checkTogether(tensors, inputs);
  const columns = tensors.map((tensor) => columnOf(tensor, inputOf(tensor, inputs)));
  const rows = rowsOf(tensors[0]!);
  const nodes = nodesOf(columns.map(({ field }) => field));
  const sink = new BatchSink();
  const prelude: Uint8Array[] = [];
  columns.forEach(({ write }, i) => {
    write(sink, nodes[i]!, prelude);
  });
  const bytes = joinBytes([schemaMessage(nodes), ...prelude, ...sink.batch(rows), END_OF_STREAM]);
  return { rows, bytes, schemaKey: matchInputs(openStream(bytes), inputs).schemaKey };
};

const mismatch = (detail: string, field: string): never => {
  throw new SluiceError('schema_mismatch', detail, { field });
};

const checkTogether = (tensors: readonly Tensor[], inputs: readonly FieldJson[] | null): void => {
  const first = tensors[0]!;
  const names = new Set<string>();
  for (const tensor of tensors) {
    const { name } = tensor;
    if (names.has(name)) mismatch(`input ${JSON.stringify(name)} is there twice`, name);
    names.add(name);
    if (rowsOf(tensor) !== rowsOf(first))
      refuseInput(
        name,
        `has ${rowsOf(tensor)} rows (the first dimension of ${shapeText(tensor.shape)}), input ${JSON.stringify(first.name)} has ${rowsOf(first)}`,
      );
  }
  if (inputs === null || (inputs.length === 1 && tensors.length === 1)) return;
  const missing = inputs.find(({ name }) => !names.has(name));
  if (missing !== undefined)
    mismatch(
      `input ${JSON.stringify(missing.name)} is missing; the inputs are ${listed(inputs)}`,
      missing.name,
    );
};

/** null: any type is taken. */
const inputOf = ({ name }: Tensor, inputs: readonly FieldJson[] | null): FieldJson | null => {
  if (inputs === null) return null;
  if (inputs.length === 1) return inputs[0]!;
  const input = inputs.find((one) => one.name === name);
  return (
    input ??
    mismatch(
      `input ${JSON.stringify(name)} is no input of the function; its inputs are ${listed(inputs)}`,
      name,
    )
  );
};

const ITEM = { name: 'item', nullable: true } as const;

const columnOf = (tensor: Tensor, input: FieldJson | null): Column => {
  const dimensions = tensor.shape.slice(1);
  if (input === null || input.type === 'any') {
    const leaf = freeType(tensor);
    const type = dimensions.reduceRight<TypeJson>(
      (inner, size) => ({ fixed_size_list: { ...ITEM, type: inner }, size }),
      leaf,
    );
    return direct(tensor, { name: input?.name ?? tensor.name, type, nullable: false });
  }
  const nested = nestedOf(input.type);
  if (isTextOfRows(tensor, nested)) return byValues(tensor, input, []);
  const sizes = fittingSizes(tensor, input, nested);
  const leaf = directLeaf(tensor, nested.leaf);
  if (leaf !== null) return direct(tensor, { ...input, type: withLeaf(input.type, leaf) });
  if (tensor.datatype !== 'BYTES' && !isDictionary(nested.leaf)) {
    return refuseInput(
      tensor.name,
      `is ${tensor.datatype}, which does not cast to ${typeText(nested.leaf)} without loss; send ${datatypeOf(nested.leaf)}`,
    );
  }
  return byValues(tensor, input, sizes);
};

const isDictionary = (type: TypeJson): boolean => typeof type !== 'string' && 'dictionary' in type;

/** BYTES are what they turn out to be where the function takes anything. */
const freeType = ({ datatype, values }: Tensor): TypeJson => {
  if (values.kind === 'fixed') return DATATYPES[datatype].arrow;
  return isUtf8(values.data) && endsOnCharacters(values) ? 'utf8' : 'binary';
};

/** A row whose list is no dimension comes as the JSON text of the list. */
const isTextOfRows = ({ datatype, shape }: Tensor, { sizes }: Nested): boolean =>
  datatype === 'BYTES' && sizes.length > 0 && shape.slice(1).every((size) => size === 1);

/** The dimensions behind the rows. Ones that say nothing, [n, 1] for a column of numbers, are dropped. */
const fittingSizes = (tensor: Tensor, input: FieldJson, { sizes }: Nested): readonly number[] => {
  const { name, shape } = tensor;
  let dimensions = shape.slice(1);
  while (dimensions.length > sizes.length && dimensions.at(-1) === 1) dimensions = dimensions.slice(0, -1);
  const fits =
    dimensions.length === sizes.length && sizes.every((size, i) => size === null || size === dimensions[i]);
  if (fits) return dimensions;
  const wanted = shapeText([-1, ...sizes.map((size) => size ?? -1)]);
  return refuseInput(
    name,
    `has the shape ${shapeText(shape)}; ${typeText(input.type)} takes ${wanted}, rows first`,
  );
};

const TEXTS: ReadonlySet<TypeJson> = new Set(['utf8', 'large_utf8', 'json']);
const BINARIES: ReadonlySet<TypeJson> = new Set(['binary', 'large_binary']);

/** The type that the tensor's bytes have without a look at them; null where values must be made of them. */
const directLeaf = (tensor: Tensor, leaf: TypeJson): TypeJson | null => {
  if (leaf === 'any') return freeType(tensor);
  const { datatype } = tensor;
  if (datatype !== 'BYTES')
    return castsTo(DATATYPES[datatype].arrow, leaf) ? DATATYPES[datatype].arrow : null;
  if (TEXTS.has(leaf)) {
    checkText(tensor);
    return 'utf8';
  }
  if (BINARIES.has(leaf)) return 'binary';
  if (datatypeOf(leaf) !== 'BYTES')
    return refuseInput(tensor.name, `is BYTES; ${typeText(leaf)} takes ${datatypeOf(leaf)}`);
  return null;
};

const endsOnCharacters = (values: Tensor['values']): boolean => {
  if (values.kind !== 'bytes') return true;
  const { offsets, data } = values;
  for (const at of offsets) if (at < data.length && (data[at]! & 0xc0) === 0x80) return false;
  return true;
};

const checkText = ({ name, values }: Tensor): void => {
  if (values.kind !== 'bytes' || (isUtf8(values.data) && endsOnCharacters(values))) return;
  for (let i = 0; i + 1 < values.offsets.length; i += 1)
    if (!isUtf8(elementBytes(values, i))) refuseInput(name, `is not valid UTF-8 in element ${i}`);
};

/** The declared lists around what the tensor's elements are; a list with long offsets needs none here. */
const withLeaf = (type: TypeJson, leaf: TypeJson): TypeJson => {
  if (typeof type === 'string') return leaf;
  if ('list' in type) return { list: { ...type.list, type: withLeaf(type.list.type, leaf) } };
  if ('large_list' in type)
    return { list: { ...type.large_list, type: withLeaf(type.large_list.type, leaf) } };
  if ('fixed_size_list' in type)
    return {
      ...type,
      fixed_size_list: { ...type.fixed_size_list, type: withLeaf(type.fixed_size_list.type, leaf) },
    };
  return leaf;
};

const direct = (tensor: Tensor, field: FieldJson): Column => ({
  field,
  write: (sink, node) => arrayInto(sink, node, tensor, 0, rowsOf(tensor)),
});

/** `count` values of dimension `depth`: lists of equal lengths need no more than their offsets. */
const arrayInto = (sink: BatchSink, node: Node, tensor: Tensor, depth: number, count: number): void => {
  sink.node(count, 0);
  sink.buffer(noBytes());
  const { kind } = node.layout;
  if (kind !== 'list' && kind !== 'fixed_list') {
    leafInto(sink, tensor);
    return;
  }
  const size = tensor.shape[depth + 1]!;
  if (kind === 'list') sink.buffer(equalOffsets(count, size));
  arrayInto(sink, node.children[0]!, tensor, depth + 1, count * size);
};

const equalOffsets = (count: number, size: number): Uint8Array => {
  const offsets = new Int32Array(count + 1);
  for (let i = 1; i <= count; i += 1) offsets[i] = i * size;
  return new Uint8Array(offsets.buffer);
};

const leafInto = (sink: BatchSink, { datatype, values }: Tensor): void => {
  if (values.kind === 'bytes') {
    sink.buffer(new Uint8Array(values.offsets.buffer, values.offsets.byteOffset, values.offsets.byteLength));
    sink.buffer(values.data.subarray(0, values.offsets.at(-1)!));
  } else sink.buffer(datatype === 'BOOL' ? packedBits(values.bytes) : values.bytes);
};

const packedBits = (bytes: Uint8Array): Uint8Array => {
  const bits = new Uint8Array((bytes.length + 7) >> 3);
  for (let i = 0; i < bytes.length; i += 1) if (bytes[i] !== 0) bits[i >> 3]! |= 1 << (i & 7);
  return bits;
};

/** What no tensor has, such as times, decimals and structs: BYTES with the text that the JSON API takes. */
const byValues = (tensor: Tensor, input: FieldJson, dimensions: readonly number[]): Column => {
  const read = reader(tensor, dimensions.length > 0 ? nestedOf(input.type).leaf : input.type);
  const rows = rowsOf(tensor);
  let values: unknown[] = Array.from(
    { length: dimensions.reduce((product, size) => product * size, rows) },
    (_, i) => read(i),
  );
  for (const [at, size] of [...dimensions.entries()].reverse()) {
    const count = dimensions.slice(0, at).reduce((product, one) => product * one, rows);
    const flat = values;
    values = Array.from({ length: count }, (_, i) => flat.slice(i * size, (i + 1) * size));
  }
  const check = checkOf(input, true);
  values.forEach((value, row) => {
    if (!check(value)) refuseInput(tensor.name, `in row ${row} ${explain(input, value)}`);
  });
  return { field: input, write: (sink, node, prelude) => buildInto(sink, node, values, prelude) };
};

const WORDS = /^(timestamp|time|duration|decimal)/;

/** Element `index` as the value that a JSON call would have for it. */
const reader = (tensor: Tensor, type: TypeJson): ((index: number) => unknown) => {
  const { name, datatype, values } = tensor;
  if (typeof type !== 'string' && 'dictionary' in type) return reader(tensor, type.dictionary);
  if (values.kind === 'fixed') {
    if (datatype === 'BOOL')
      return (index) => isValidAt(packedBits(values.bytes.subarray(index, index + 1)), 0);
    const numbers = numbersOf(datatype as NumberDatatype, values.bytes, DATATYPES[datatype].bytes);
    return (index) => numbers[index];
  }
  const isBinary = BINARIES.has(type) || (typeof type !== 'string' && 'fixed_size_binary' in type);
  if (isBinary) return (index) => new Uint8Array(elementBytes(values, index));
  checkText(tensor);
  const text = (index: number): string => Buffer.from(elementBytes(values, index)).toString('utf8');
  if (typeof type === 'string' || WORDS.test(typeText(type))) return text;
  return (index) => {
    try {
      return settled(type, exactJson(text(index)).value);
    } catch {
      return refuseInput(name, `has no JSON of ${typeText(type)} in element ${index}`);
    }
  };
};
