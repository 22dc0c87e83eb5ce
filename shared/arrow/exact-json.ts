/**
 * JSON whose numbers keep what a double would round: ids beyond 2^53, decimals of more than 15 digits. `JSON.parse` gives
 * such numbers away; a reviver that sees their source keeps them, at 20 times the price (measured on lists of floats), so it
 * runs only where a look at the text has found one.
 */
import { SluiceError } from '../errors/sluice-error.ts';

/** A number's own text; `JSON.stringify` writes it as it stands. */
export type ExactNumber = { readonly rawJSON: string };

/** Which numbers are kept: `integers` beyond 2^53, or `all`, fractions among them. */
export type ExactNumbers = 'none' | 'integers' | 'all';

export type ExactJson = { readonly value: unknown; readonly hasExact: boolean };

type Reviver = (key: string, value: unknown, context?: { readonly source?: string }) => unknown;

/** ECMAScript's source text access: Node 21, Chrome 114; its types are not in the library version that is compiled against. */
const native = JSON as unknown as {
  readonly parse: (text: string, reviver: Reviver) => unknown;
  readonly rawJSON: (text: string) => ExactNumber;
  readonly isRawJSON?: (value: unknown) => boolean;
};

/** An object's member named so is looked at first: the engine's own question costs more. */
export const isExactNumber = (value: unknown): value is ExactNumber =>
  typeof value === 'object' &&
  value !== null &&
  (value as Partial<ExactNumber>).rawJSON !== undefined &&
  native.isRawJSON?.(value) === true;

export const isInteger = (source: string): boolean => /^-?\d+$/.test(source);

/** Digits of the widest integers of 64 bits, and a sign. */
const WIDE_DIGITS_MAX = 21;

/** An integer's digits as a bigint; null: so many that no type of 64 bits takes it. To read millions of them takes seconds. */
export const wideInteger = (digits: string): bigint | null =>
  digits.length > WIDE_DIGITS_MAX && digits.replace(/^-?0*/, '').length > WIDE_DIGITS_MAX
    ? null
    : BigInt(digits);

/** Of an integer's digits. */
export const isInt64 = (digits: string): boolean => {
  const value = wideInteger(digits);
  return value !== null && BigInt.asIntN(64, value) === value;
};

const NUMBER = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/;

/** Sign, digits and exponent, the same for all ways to write one number. */
const decimalOf = (source: string): string => {
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = NUMBER.exec(source) ?? [];
  const digits = `${whole}${fraction}`.replace(/^0+/, '');
  const kept = digits.replace(/0+$/, '');
  if (kept === '') return '0';
  return `${sign}${kept}e${Number(exponent) - fraction.length + digits.length - kept.length}`;
};

const digitsOf = (source: string): number =>
  source
    .replace(/[eE].*/, '')
    .replace(/[-.]/g, '')
    .replace(/^0+/, '').length;

/** Whether the double, written again, is the same number. */
const isHeld = (source: string, value: number): boolean => {
  const text = String(value);
  if (text === source && !Number.isInteger(value)) return true;
  if (isInteger(source)) return Number.isSafeInteger(value);
  return Number.isFinite(value) && decimalOf(text) === decimalOf(source);
};

/** Whether the text is a double written with more digits than it takes, such as C's %.17g: nothing of it is lost. */
export const isDoublePrint = (source: string): boolean => {
  const value = Number(source);
  const digits = digitsOf(source);
  if (!Number.isFinite(value) || digits > 100) return false;
  return (
    decimalOf(String(value)) === decimalOf(source) ||
    decimalOf(value.toPrecision(Math.max(1, digits))) === decimalOf(source)
  );
};

/** Below this many digits a double holds every number. */
const DIGITS_MIN = 16;
const [ZERO, NINE, POINT, MINUS, QUOTE] = [48, 57, 46, 45, 34];

const isDigit = (code: number): boolean => code >= ZERO && code <= NINE;
const isPointOrDigit = (code: number): boolean => isDigit(code) || code === POINT;

/** An exponent behind `at`, as far as it goes. */
const exponentEnd = (text: string, at: number): number => {
  let end = at + 1;
  if (text[end] === '+' || text[end] === '-') end++;
  while (isDigit(text.charCodeAt(end))) end++;
  return end;
};

/** Whether the text seems to have a number to be kept. One in a string may be taken for one: that costs time only. */
const hasRounded = (text: string, numbers: ExactNumbers): boolean => {
  const isPart = numbers === 'integers' ? isDigit : isPointOrDigit;
  // Of so many characters in a row one lies at every step.
  for (let at = DIGITS_MIN - 1; at < text.length; at += DIGITS_MIN) {
    if (!isPart(text.charCodeAt(at))) continue;
    let from = at;
    while (from > 0 && isPart(text.charCodeAt(from - 1))) from--;
    let end = at + 1;
    while (end < text.length && isPart(text.charCodeAt(end))) end++;
    at = end;
    const before = from > 0 ? text.charCodeAt(from - 1) : 0;
    if (end - from < DIGITS_MIN || before === QUOTE || before === POINT) continue;
    if (text[end] === 'e' || text[end] === 'E') end = exponentEnd(text, end);
    const source = text.slice(before === MINUS ? from - 1 : from, end);
    if (!isHeld(source, Number(source))) return true;
  }
  return false;
};

/** @throws SyntaxError as `JSON.parse`, RangeError for values that nest too deep */
export const exactJson = (text: string, numbers: ExactNumbers = 'all'): ExactJson => {
  if (numbers === 'none' || !hasRounded(text, numbers)) return { value: JSON.parse(text), hasExact: false };
  const value = native.parse(text, (_, given, context) => {
    const source = context?.source;
    if (typeof given !== 'number' || source === undefined || source.length < DIGITS_MIN) return given;
    return isHeld(source, given) ? given : native.rawJSON(source);
  });
  return { value, hasExact: true };
};

const noSource = (value: number): never => {
  throw new SluiceError(
    'not_acceptable',
    `The result has an integer near ${value}, which this version of JavaScript rounds as it reads JSON; use Node 22 or ` +
      'later, or read the Arrow stream of handle.arrow().',
  );
};

/**
 * JSON for people's own code: integers beyond 2^53 as bigint, fractions as the nearest double.
 * @throws SyntaxError; SluiceError `not_acceptable` where there is such an integer and the engine gives no source text
 */
export const jsonWithBigInts = (text: string): unknown => {
  if (!hasRounded(text, 'integers')) return JSON.parse(text);
  return native.parse(text, (_, given, context) => {
    if (typeof given !== 'number' || !Number.isInteger(given) || Number.isSafeInteger(given)) return given;
    const source = context?.source ?? noSource(given);
    return isInteger(source) ? BigInt(source) : given;
  });
};

/** JSON of a value that may have such bigints in it. */
export const bigIntJson = (value: unknown): string => {
  try {
    return JSON.stringify(value);
  } catch (error) {
    // Only bigints and circles have no JSON; the latter fail again.
    if (!(error instanceof TypeError) || native.isRawJSON === undefined) throw error;
    return JSON.stringify(value, (_, member) =>
      typeof member === 'bigint' ? native.rawJSON(String(member)) : member,
    );
  }
};
