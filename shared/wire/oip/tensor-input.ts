/** A tensor's elements from what clients send: JSON data, the binary form, and the typed contents of gRPC. */
import { BugError } from '../../errors/sluice-error.ts';
import { DATATYPES } from './datatypes.ts';
import { JSON_CHECKS, type NumberDatatype, zerosOf } from './number-arrays.ts';
import { refuseInput, shapeText, type Tensor, type TensorHead, type TensorValues } from './tensor.ts';

/** Arrow's 32-bit offsets hold so much text in one column. */
const DATA_BYTES_MAX = 2 ** 31 - 1;

/**
 * The binary form: fixed elements as they are, each element of BYTES behind its length in 4 bytes. The values are views of
 * `bytes`, but for BYTES.
 */
export const binaryTensor = (head: TensorHead, bytes: Uint8Array): Tensor => {
  const { name, datatype, shape, elements } = head;
  const width = DATATYPES[datatype].bytes;
  if (width === 0) return { name, datatype, shape, values: unprefixed(head, bytes) };
  if (bytes.byteLength !== elements * width)
    return refuseInput(
      name,
      `has ${bytes.byteLength} bytes of binary data; ${datatype} of the shape ${shapeText(shape)} has ${elements * width}`,
    );
  return { name, datatype, shape, values: { kind: 'fixed', bytes } };
};

const unprefixed = ({ name, elements }: TensorHead, bytes: Uint8Array): TensorValues => {
  // Each element has at least its length: what claims more is refused before anything is allocated.
  if (elements * 4 > bytes.byteLength)
    return refuseInput(
      name,
      `has ${bytes.byteLength} bytes of binary data, too few for ${elements} elements`,
    );
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const offsets = new Uint32Array(elements + 1);
  const data = new Uint8Array(bytes.byteLength - elements * 4);
  let at = 0;
  for (let i = 0; i < elements; i += 1) {
    const left = bytes.byteLength - at;
    const length = left < 4 ? 0 : view.getUint32(at, true);
    if (left < 4 || length > left - 4)
      return refuseInput(name, `is cut off: element ${i} ends outside of its ${bytes.byteLength} bytes`);
    const begin = offsets[i]!;
    if (begin + length > data.byteLength)
      return refuseInput(name, `is cut off: element ${i} of ${elements} leaves no room for those behind it`);
    data.set(bytes.subarray(at + 4, at + 4 + length), begin);
    offsets[i + 1] = begin + length;
    at += 4 + length;
  }
  if (at !== bytes.byteLength)
    return refuseInput(
      name,
      `has ${bytes.byteLength} bytes of binary data; its ${elements} elements take ${at}`,
    );
  return { kind: 'bytes', offsets, data };
};

/** JSON data: nested as the shape says, or flat in row-major order. */
export const jsonTensor = (head: TensorHead, data: unknown): Tensor => {
  const { name, datatype, shape } = head;
  if (!Array.isArray(data)) return refuseInput(name, 'has no data; give an array, or binary data');
  const flat = flattened(head, data);
  return { name, datatype, shape, values: valuesOf(head, flat) };
};

/** The elements in row-major order; the array itself where it is flat already. */
const flattened = (head: TensorHead, data: readonly unknown[]): readonly unknown[] => {
  const { name, shape, elements } = head;
  if (!Array.isArray(data[0])) {
    if (data.length !== elements)
      return refuseInput(name, `has ${data.length} elements; the shape ${shapeText(shape)} has ${elements}`);
    return data;
  }
  const flat: unknown[] = [];
  const walk = (list: unknown, depth: number): void => {
    if (!Array.isArray(list) || list.length !== shape[depth])
      refuseInput(name, `is not nested as its shape ${shapeText(shape)} says, in dimension ${depth}`);
    const items = list as readonly unknown[];
    if (depth === shape.length - 1) for (const item of items) flat.push(item);
    else for (const item of items) walk(item, depth + 1);
  };
  walk(data, 0);
  return flat;
};

/** Elements as values, of JSON or of gRPC's typed contents, as many as the shape has. */
const valuesOf = (head: TensorHead, flat: readonly unknown[]): TensorValues => {
  const { datatype } = head;
  if (datatype === 'BYTES') return textValues(head, flat);
  return {
    kind: 'fixed',
    bytes: datatype === 'BOOL' ? boolBytes(head, flat) : numberBytes(head, datatype, flat),
  };
};

const refuseElement = ({ name, datatype, shape }: TensorHead, at: number, value: unknown): never => {
  const shown = JSON.stringify(value)?.slice(0, 60) ?? 'missing';
  const rowElements = shape.slice(1).reduce((product, size) => product * size, 1);
  const row = rowElements > 0 ? Math.floor(at / rowElements) : 0;
  const hint = /INT64/.test(datatype) ? ' (beyond 2^53: a string of digits, or binary data)' : '';
  return refuseInput(name, `has ${shown} as element ${at}, in row ${row}, which is no ${datatype}${hint}`);
};

const numberBytes = (head: TensorHead, datatype: NumberDatatype, flat: readonly unknown[]): Uint8Array => {
  const check = JSON_CHECKS[datatype];
  const out = zerosOf(datatype, flat.length);
  for (let i = 0; i < flat.length; i += 1) out[i] = check(flat[i]) ?? refuseElement(head, i, flat[i]);
  return new Uint8Array(out.buffer);
};

const boolBytes = (head: TensorHead, flat: readonly unknown[]): Uint8Array => {
  const out = new Uint8Array(flat.length);
  for (let i = 0; i < flat.length; i += 1) {
    if (typeof flat[i] !== 'boolean') refuseElement(head, i, flat[i]);
    out[i] = flat[i] === true ? 1 : 0;
  }
  return out;
};

const textValues = (head: TensorHead, flat: readonly unknown[]): TensorValues => {
  const offsets = new Uint32Array(flat.length + 1);
  let end = 0;
  for (let i = 0; i < flat.length; i += 1) {
    const value = flat[i];
    if (typeof value === 'string' && value.isWellFormed()) end += Buffer.byteLength(value);
    else if (value instanceof Uint8Array) end += value.byteLength;
    else refuseElement(head, i, value);
    if (end > DATA_BYTES_MAX) return refuseInput(head.name, `has more than ${DATA_BYTES_MAX} bytes`);
    offsets[i + 1] = end;
  }
  const data = Buffer.allocUnsafeSlow(end);
  for (let i = 0; i < flat.length; i += 1) {
    const value = flat[i] as string | Uint8Array;
    if (typeof value === 'string') data.write(value, offsets[i]!);
    else data.set(value, offsets[i]!);
  }
  return { kind: 'bytes', offsets, data };
};

/** Values of gRPC's typed contents; its narrow integers come in 32 bits and are checked here. */
export const typedTensor = (head: TensorHead, contents: readonly unknown[]): Tensor => {
  const { name, datatype, shape, elements } = head;
  if (contents.length !== elements)
    return refuseInput(
      name,
      `has ${contents.length} elements in its contents; the shape ${shapeText(shape)} has ${elements}`,
    );
  // Contents may hold what JSON cannot: NaN and infinities.
  if (datatype === 'FP32' || datatype === 'FP64') {
    const out =
      datatype === 'FP32' ? Float32Array.from(contents as number[]) : Float64Array.from(contents as number[]);
    return { name, datatype, shape, values: { kind: 'fixed', bytes: new Uint8Array(out.buffer) } };
  }
  return { name, datatype, shape, values: valuesOf(head, contents) };
};

/** Element `index` of BYTES. */
export const elementBytes = (values: TensorValues, index: number): Uint8Array => {
  if (values.kind !== 'bytes') throw new BugError('a tensor of numbers has no elements of bytes');
  return values.data.subarray(values.offsets[index]!, values.offsets[index + 1]!);
};
