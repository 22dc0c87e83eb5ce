/** Tensors' numbers as typed arrays. All machines that Node runs on are little-endian, as the protocol is. */
import { NUMBER_ARRAYS, type Numbers } from '../../arrow/index.ts';
import { DATATYPES, type Datatype } from './datatypes.ts';

export type NumberDatatype = Exclude<Datatype, 'BOOL' | 'BYTES'>;

/** `count` zeros. */
export const zerosOf = (datatype: NumberDatatype, count: number): Numbers =>
  new NUMBER_ARRAYS[DATATYPES[datatype].arrow]!(count);

/** A view of the bytes, or of a copy where they are not aligned. */
export const numbersOf = (datatype: NumberDatatype, bytes: Uint8Array, width: number): Numbers => {
  const aligned = bytes.byteOffset % width === 0 ? bytes : new Uint8Array(bytes);
  const NumberArray = NUMBER_ARRAYS[DATATYPES[datatype].arrow]!;
  return new NumberArray(aligned.buffer, aligned.byteOffset, aligned.byteLength / width);
};

type Check = (value: unknown) => number | bigint | null;

const whole =
  (min: number, max: number): Check =>
  (value) =>
    Number.isInteger(value) && (value as number) >= min && (value as number) <= max
      ? (value as number)
      : null;

const DIGITS = /^-?\d{1,20}$/;

/** Beyond 2^53 a JSON number has lost digits already: a string of digits is taken instead. */
const wide =
  (min: bigint, max: bigint): Check =>
  (value) => {
    const isExact = typeof value === 'string' ? DIGITS.test(value) : Number.isSafeInteger(value);
    if (!isExact) return null;
    const integer = BigInt(value as string | number);
    return integer >= min && integer <= max ? integer : null;
  };

/** JSON has no infinities: 1e999 is a mistake, and so is what overflows a narrower float. */
const finite =
  (max: number): Check =>
  (value) =>
    typeof value === 'number' && value > -max && value < max ? value : null;

/** What a JSON value is in the datatype; null where it is no value of it. */
export const JSON_CHECKS: Readonly<Record<NumberDatatype, Check>> = {
  UINT8: whole(0, 255),
  UINT16: whole(0, 65_535),
  UINT32: whole(0, 2 ** 32 - 1),
  UINT64: wide(0n, 2n ** 64n - 1n),
  INT8: whole(-128, 127),
  INT16: whole(-32_768, 32_767),
  INT32: whole(-(2 ** 31), 2 ** 31 - 1),
  INT64: wide(-(2n ** 63n), 2n ** 63n - 1n),
  FP16: finite(65_520),
  FP32: finite(2 ** 128 - 2 ** 103),
  FP64: finite(Infinity),
};
