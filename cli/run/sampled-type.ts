/** Types for columns of JSON Lines that no input declares, from the values of a sample. */
import { isDoublePrint, isExactNumber, isInt64, isInteger } from '../../shared/arrow/index.ts';
import { ownValue } from '../../shared/arrow/value-check.ts';
import type { FieldJson, TypeJson } from '../../shared/domain/function.ts';
import { CommandError } from '../failure.ts';

/** Digits of the widest integers that Arrow has. */
const DIGITS_MAX = 38;

/** The digits of an integer, however large; null for what is none. */
const integerText = (value: unknown): string | null => {
  if (Number.isSafeInteger(value)) return String(value);
  return isExactNumber(value) && isInteger(value.rawJSON) ? value.rawJSON : null;
};

const isDouble = (value: unknown): boolean =>
  typeof value === 'number' || (isExactNumber(value) && isDoublePrint(value.rawJSON));

/**
 * The narrowest of bool, int64, float64, decimal without fraction, utf8 that the sample fits without loss, else json, whose
 * texts have all digits.
 */
export const sampledType = (values: readonly unknown[]): TypeJson => {
  const given = values.filter((value) => value !== null && value !== undefined);
  if (given.length === 0) return 'json';
  if (given.every((value) => typeof value === 'boolean')) return 'bool';
  if (given.every((value) => typeof value === 'string')) return 'utf8';
  const integers = given.map(integerText);
  if (integers.every((text) => text !== null && isInt64(text))) return 'int64';
  if (given.every(isDouble)) return 'float64';
  const isWide = integers.every((text) => text !== null && text.replace('-', '').length <= DIGITS_MAX);
  return isWide ? { decimal: [DIGITS_MAX, 0], bits: 128 } : 'json';
};

/**
 * Rows behind the sample may have what its float64 would round. `floats`: columns of that type by the sample.
 * @throws CommandError naming the column and the number
 */
export const refuseRounded = (
  row: Readonly<Record<string, unknown>>,
  floats: readonly FieldJson[],
  where: () => string,
): void => {
  for (const { name } of floats) {
    const value = ownValue(row, name);
    if (!isExactNumber(value) || isDoublePrint(value.rawJSON)) continue;
    throw new CommandError(
      `${where()}: column "${name}" has ${value.rawJSON}, which its type, float64 by the first rows, would round; ` +
        'write the numbers of the column as strings, or leave it out with --keep.',
    );
  }
};
