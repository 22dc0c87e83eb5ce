/** Integers beyond 2^53, which JSON.parse rounds: clients and servers in other languages write all their digits. */

type Reviver = (key: string, value: unknown, context: { readonly source?: string }) => unknown;
/** With the third argument of revivers, which Node has since 22; its types are not in the library version that is compiled against. */
const parse = JSON.parse as (text: string, reviver: Reviver) => unknown;

const INTEGER = /^-?\d+$/;

const isRounded = (value: unknown): boolean => typeof value === 'number' && !Number.isSafeInteger(value);

/** Whether data of 64-bit integers, nested or flat, may have lost digits. */
export const hasRounded = (data: unknown): boolean =>
  Array.isArray(data) ? data.some(hasRounded) : isRounded(data);

/** The JSON again, with such integers as strings of digits. */
export const exactlyParsed = (text: string): unknown =>
  parse(text, (_, value, { source }) =>
    isRounded(value) && source !== undefined && INTEGER.test(source) ? source : value,
  );
