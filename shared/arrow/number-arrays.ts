/** The typed array of each Arrow type of numbers. */

export type NarrowArray = new (length: number) => { [index: number]: number; readonly buffer: ArrayBuffer };

export type Numbers = {
  readonly length: number;
  readonly buffer: ArrayBufferLike;
  readonly byteOffset: number;
  readonly byteLength: number;
  [index: number]: number | bigint;
  join(): string;
};
export type NumbersOf = {
  new (source: ArrayBufferLike | number): Numbers;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): Numbers;
};

/** In Node 24 and later; its types are not in the library version that is compiled against. */
const { Float16Array } = globalThis as unknown as { readonly Float16Array: NarrowArray };

/** Those whose values are JavaScript's numbers. */
export const NARROW_ARRAYS: Readonly<Record<string, NarrowArray>> = {
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  uint8: Uint8Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  float16: Float16Array,
  float32: Float32Array,
  float64: Float64Array,
};

/** All of them; those of 64-bit integers hold bigints. */
export const NUMBER_ARRAYS = {
  ...NARROW_ARRAYS,
  int64: BigInt64Array,
  uint64: BigUint64Array,
} as unknown as Readonly<Record<string, NumbersOf>>;
