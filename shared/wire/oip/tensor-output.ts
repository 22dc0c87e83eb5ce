/** A tensor's elements as answers have them: JSON data, or the binary form. */
import { isUtf8 } from 'node:buffer';
import { SluiceError } from '../../errors/sluice-error.ts';
import { DATATYPES } from './datatypes.ts';
import { numbersOf } from './number-arrays.ts';
import { type Tensor, tensorBytes } from './tensor.ts';
import { elementBytes } from './tensor-input.ts';

/** The elements in row-major order between brackets; 64-bit integers in full, NaN and ±Infinity as null. */
export const dataJson = (tensor: Tensor): string => {
  const { datatype, values } = tensor;
  if (values.kind === 'bytes') return textsJson(tensor);
  const { bytes } = values;
  if (datatype === 'BOOL') return `[${Array.from(bytes, (byte) => (byte === 0 ? 'false' : 'true')).join()}]`;
  const text = numbersOf(datatype as 'FP64', bytes, DATATYPES[datatype].bytes).join();
  // "NaN" and "Infinity" are the only letters besides the exponent's "e".
  return `[${text.includes('N') || text.includes('I') ? text.replace(/NaN|-?Infinity/g, 'null') : text}]`;
};

const textsJson = ({ name, values }: Tensor): string => {
  const texts: string[] = [];
  const count = values.kind === 'bytes' ? values.offsets.length - 1 : 0;
  for (let i = 0; i < count; i += 1) {
    const bytes = elementBytes(values, i);
    if (!isUtf8(bytes))
      throw new SluiceError(
        'not_acceptable',
        `output ${JSON.stringify(name)} is no text in element ${i}; ask for it with "binary_data": true`,
        { field: name },
      );
    texts.push(
      JSON.stringify(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')),
    );
  }
  return `[${texts.join()}]`;
};

/** The binary form: fixed elements as they are, each element of BYTES behind its length in 4 bytes. */
export const dataBinary = (tensor: Tensor): Uint8Array => {
  const { values } = tensor;
  if (values.kind === 'fixed') return values.bytes;
  const { offsets, data } = values;
  const out = Buffer.allocUnsafeSlow(tensorBytes(tensor));
  let at = 0;
  for (let i = 0; i + 1 < offsets.length; i += 1) {
    const length = offsets[i + 1]! - offsets[i]!;
    out.writeUInt32LE(length, at);
    out.set(data.subarray(offsets[i]!, offsets[i + 1]!), at + 4);
    at += 4 + length;
  }
  return out;
};

/** One value an element, as gRPC's typed contents need them; 64-bit integers as texts of digits. */
export const elementsOf = ({ datatype, values }: Tensor): readonly unknown[] => {
  if (values.kind === 'bytes')
    return Array.from({ length: values.offsets.length - 1 }, (_, i) => elementBytes(values, i));
  if (datatype === 'BOOL') return Array.from(values.bytes, (byte) => byte !== 0);
  const numbers = numbersOf(datatype as 'FP64', values.bytes, DATATYPES[datatype].bytes);
  const isWide = datatype === 'INT64' || datatype === 'UINT64';
  return Array.from({ length: numbers.length }, (_, i) => (isWide ? String(numbers[i]) : numbers[i]));
};
