/**
 * Values of fixed width as values of another type: whole types that never lose anything, and numbers that turn out to fit.
 * What pyarrow's safe cast refuses is refused here.
 */
import type { TimeUnit, TypeJson } from '../domain/function.ts';
import { type ArrayData, isValidAt } from './array-node.ts';
import { castsTo } from './input-match.ts';
import { NUMBER_ARRAYS, type Numbers } from './number-arrays.ts';
import { TIME_UNITS, typeText } from './type-text.ts';
import { wideInt } from './value-text.ts';

/** Two types, or a type and a value, that do not go together; the message names both. */
export class CastError extends Error {}

export const refuseCast = (from: TypeJson, to: TypeJson): never => {
  throw new CastError(`${typeText(from)} does not cast to ${typeText(to)}`);
};

const isNumber = (type: TypeJson): type is string =>
  typeof type === 'string' && Object.hasOwn(NUMBER_ARRAYS, type);
const isFloat = (type: string): boolean => type.startsWith('float');

/** Rows [from, from + count) of an array of fixed width as bytes of `to`. */
export function castFixed(array: ArrayData, from: number, count: number, to: TypeJson): Uint8Array {
  const { type } = array.node;
  if (isNumber(type) && isNumber(to)) return castNumbers(array, from, count, type, to);
  if (!castsTo(type, to)) return refuseCast(type, to);
  return castMoments(array, from, count, to);
}

/** A copy that is aligned, which views of a stream need not be. */
function numbersAt(array: ArrayData, from: number, count: number, type: string): Numbers {
  const { width } = array.node.layout;
  const bytes = new Uint8Array(count * width);
  bytes.set(array.values.subarray(from * width, (from + count) * width));
  return new NUMBER_ARRAYS[type]!(bytes.buffer);
}

function castNumbers(array: ArrayData, from: number, count: number, type: string, to: string): Uint8Array {
  const read = numbersAt(array, from, count, type);
  const out = new NUMBER_ARRAYS[to]!(count);
  const convert = to.endsWith('int64') ? toWide : toNumber;
  // Narrower floats round, everywhere; a whole number that is another one afterwards is a loss.
  const mayRound = isFloat(type) && isFloat(to);
  for (let i = 0; i < count; i++) {
    const value = read[i]!;
    if (!isValidAt(array.validity, from + i)) continue;
    const cast = convert(value);
    if (cast !== null) out[i] = cast;
    if (cast === null || !(mayRound || isSame(value, out[i]!)))
      throw new CastError(`the value ${value} of ${type} does not fit ${to}`);
  }
  return new Uint8Array(out.buffer);
}

const toNumber = (value: number | bigint): number => Number(value);
const toWide = (value: number | bigint): bigint | null =>
  typeof value === 'bigint' ? value : Number.isInteger(value) ? BigInt(value) : null;

/** Numbers and bigints are ordered by their exact values, and never strictly equal; NaN is the same as nothing. */
const isSame = (a: number | bigint, b: number | bigint): boolean => a <= b && a >= b;

const DAY_MS = 86_400_000n;

/** Dates, times, durations, decimals: integers times a constant. */
function castMoments(array: ArrayData, from: number, count: number, to: TypeJson): Uint8Array {
  const { type, layout } = array.node;
  const factor = factorOf(type, to);
  const bytes = array.values;
  const source = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const width = widthOf(to);
  const out = Buffer.alloc(count * width);
  for (let i = 0; i < count; i++) {
    if (!isValidAt(array.validity, from + i)) continue;
    const at = (from + i) * layout.width;
    const value = layout.width === 4 ? BigInt(source.readInt32LE(at)) : wideInt(source, at, layout.width);
    const cast = value * factor;
    if (BigInt.asIntN(width * 8, cast) !== cast)
      throw new CastError(`the value ${value} of ${typeText(type)} does not fit ${typeText(to)}`);
    for (let word = 0; word < width / 4; word++)
      out.writeUInt32LE(Number((cast >> BigInt(word * 32)) & 0xffffffffn), i * width + word * 4);
  }
  return new Uint8Array(out.buffer, out.byteOffset, out.byteLength);
}

function widthOf(type: TypeJson): number {
  if (typeof type !== 'string' && 'decimal' in type) return type.bits / 8;
  return typeof type !== 'string' && 'time' in type && (type.time === 's' || type.time === 'ms') ? 4 : 8;
}

const unitFactor = (from: TimeUnit, to: TimeUnit): bigint =>
  1000n ** BigInt(TIME_UNITS.indexOf(to) - TIME_UNITS.indexOf(from));

function factorOf(from: TypeJson, to: TypeJson): bigint {
  if (from === 'date32' && to === 'date64') return DAY_MS;
  if (typeof from === 'string' || typeof to === 'string') return refuseCast(from, to);
  if ('timestamp' in from && 'timestamp' in to) return unitFactor(from.timestamp, to.timestamp);
  if ('time' in from && 'time' in to) return unitFactor(from.time, to.time);
  if ('duration' in from && 'duration' in to) return unitFactor(from.duration, to.duration);
  if ('decimal' in from && 'decimal' in to) return 10n ** BigInt(to.decimal[1] - from.decimal[1]);
  return refuseCast(from, to);
}
