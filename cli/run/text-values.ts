/** Texts of CSV files as values of a column's type. */
import { exactJson } from '../../shared/arrow/index.ts';
import type { FieldJson } from '../../shared/domain/function.ts';
export type TextReader = (text: string) => unknown;

const integer = (text: string): unknown => {
  if (!/^\s*[+-]?\d+\s*$/.test(text)) return undefined;
  const value = Number(text);
  return Number.isSafeInteger(value) ? value : BigInt(text.trim());
};

const SPECIAL: ReadonlyMap<string, number> = new Map([
  ['nan', Number.NaN],
  ...['inf', 'infinity', '+inf', '+infinity'].map((text) => [text, Number.POSITIVE_INFINITY] as const),
  ...['-inf', '-infinity'].map((text) => [text, Number.NEGATIVE_INFINITY] as const),
]);

/** Number() alone takes blanks for 0, and 0x10 for 16. */
const float = (text: string): unknown =>
  /^\s*[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?\s*$/i.test(text)
    ? Number(text)
    : SPECIAL.get(text.trim().toLowerCase());

const BOOLS: ReadonlyMap<string, boolean> = new Map([
  ['true', true],
  ['1', true],
  ['false', false],
  ['0', false],
]);

const bool = (text: string): unknown => BOOLS.get(text.trim().toLowerCase());

const json = (text: string): unknown => {
  try {
    return exactJson(text).value;
  } catch {
    return undefined;
  }
};

const readerOf = ({ type }: FieldJson): { read: TextReader; isText: boolean } => {
  if (typeof type !== 'string')
    return { read: 'list' in type || 'struct' in type ? json : (text) => text, isText: false };
  if (type === 'utf8' || type === 'large_utf8') return { read: (text) => text, isText: true };
  if (/^u?int/.test(type)) return { read: integer, isText: false };
  if (type.startsWith('float')) return { read: float, isText: false };
  if (type === 'bool') return { read: bool, isText: false };
  return { read: type === 'json' ? json : (text) => text, isText: type === 'any' };
};

/** A text that is no value of its column; whoever knows the file and the line says them. */
export class TextError extends Error {}

/** Reads one field's texts. An empty text is null where the type is not text. @throws TextError */
export const textReader = (field: FieldJson): TextReader => {
  const { read, isText } = readerOf(field);
  if (isText) return read;
  return (text) => {
    if (text === '') return null;
    const value = read(text);
    if (value !== undefined) return value;
    throw new TextError(
      `${JSON.stringify(text.slice(0, 40))} in column "${field.name}" is not of the type ${JSON.stringify(field.type)} that the function takes; correct the line or choose another column.`,
    );
  };
};
