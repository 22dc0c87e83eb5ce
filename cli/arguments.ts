/** Texts of the command line as numbers; what is wrong is a usage error that names the option. */
import { InvalidArgumentError } from 'commander';

/** A parser for commander: a whole number from `min` to `max`. */
export const wholeNumber =
  (min: number, max: number = Number.MAX_SAFE_INTEGER) =>
  (text: string): number => {
    const value = Number(text);
    if (text.trim() !== '' && Number.isInteger(value) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(
      max === Number.MAX_SAFE_INTEGER
        ? `Give a whole number of at least ${min}.`
        : `Give a whole number from ${min} to ${max}.`,
    );
  };

/** Repeatable options come together as a list. */
export const collected = (text: string, before: readonly string[] | undefined): string[] => [
  ...(before ?? []),
  text,
];
