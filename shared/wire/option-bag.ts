/** Reads the options of an object that came from outside: each by name, with what is allowed, unknown ones refused. */
import { SluiceError } from '../errors/sluice-error.ts';

const shown = (value: unknown): string => {
  const text = JSON.stringify(value) ?? 'missing';
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
};

export const refuse = (where: string, value: unknown, want: string): never => {
  const is = value === undefined ? 'is missing' : `is ${shown(value)}`;
  throw new SluiceError('invalid_function', `${where || 'function'} ${is}; give ${want}.`, { field: where });
};

type Entries = Readonly<Record<string, unknown>>;

/** @throws SluiceError `invalid_function` when `value` is no object or has a member that `options` does not name */
export const bagOf = (value: unknown, where: string, options: readonly string[]): Bag => {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return refuse(where, value, `an object with ${options.join(', ')}`);
  }
  const unknown = Object.keys(value)
    .find((key) => !options.includes(key))
    ?.slice(0, 80);
  if (unknown !== undefined) {
    const at = where === '' ? unknown : `${where}.${unknown}`;
    throw new SluiceError('invalid_function', `${at} is not an option; there are ${options.join(', ')}.`, {
      field: at,
    });
  }
  return new Bag(value as Entries, where);
};

export class Bag {
  readonly #entries: Entries;
  readonly #where: string;

  constructor(entries: Entries, where: string) {
    this.#entries = entries;
    this.#where = where;
  }

  #at(name: string): string {
    return this.#where === '' ? name : `${this.#where}.${name}`;
  }

  raw(name: string): unknown {
    return Object.hasOwn(this.#entries, name) ? this.#entries[name] : undefined;
  }

  bag(name: string, options: readonly string[]): Bag {
    return bagOf(this.raw(name), this.#at(name), options);
  }

  text(name: string, lengthMin: number, lengthMax: number): string {
    const value = this.raw(name);
    const fits =
      typeof value === 'string' &&
      value.length >= lengthMin &&
      value.length <= lengthMax &&
      !value.includes('\0');
    return fits
      ? value
      : refuse(this.#at(name), value, `a string of ${lengthMin} to ${lengthMax} characters`);
  }

  pattern(name: string, pattern: RegExp, want: string): string {
    const value = this.raw(name);
    return typeof value === 'string' && pattern.test(value) ? value : refuse(this.#at(name), value, want);
  }

  optionalText(name: string, lengthMax: number): string | null {
    return (this.raw(name) ?? null) === null ? null : this.text(name, 1, lengthMax);
  }

  choice<T extends string>(name: string, choices: readonly T[], fallback?: T): T {
    const value = this.raw(name) ?? fallback;
    const found = choices.find((choice) => choice === value);
    return found ?? refuse(this.#at(name), value, `one of ${choices.join(', ')}`);
  }

  flag(name: string, fallback: boolean): boolean {
    const value = this.raw(name) ?? fallback;
    return typeof value === 'boolean' ? value : refuse(this.#at(name), value, 'true or false');
  }

  number(name: string, min: number, max: number, fallback?: number): number {
    const value = this.raw(name) ?? fallback;
    const fits = typeof value === 'number' && value >= min && value <= max;
    return fits ? value : refuse(this.#at(name), value, `a number from ${min} to ${max}`);
  }

  optionalNumber(name: string, min: number, max: number): number | null {
    return (this.raw(name) ?? null) === null ? null : this.number(name, min, max);
  }

  integer(name: string, min: number, max: number, fallback?: number): number {
    const value = this.raw(name) ?? fallback;
    const fits = Number.isInteger(value) && (value as number) >= min && (value as number) <= max;
    return fits ? (value as number) : refuse(this.#at(name), value, `a whole number from ${min} to ${max}`);
  }

  optionalInteger(name: string, min: number, max: number): number | null {
    return (this.raw(name) ?? null) === null ? null : this.integer(name, min, max);
  }

  list(name: string, lengthMax: number): readonly unknown[] {
    const value = this.raw(name) ?? [];
    return Array.isArray(value) && value.length <= lengthMax
      ? value
      : refuse(this.#at(name), value, `a list of at most ${lengthMax}`);
  }

  texts(name: string, lengthMax: number): readonly string[] {
    return this.list(name, lengthMax).map((value, i) =>
      typeof value === 'string' && value !== '' && value.length <= 1024
        ? value
        : refuse(`${this.#at(name)}[${i}]`, value, 'a string of 1 to 1024 characters'),
    );
  }
}

/** Of what came from outside, a refusal repeats no more. */
const DETAIL_MAX = 4000;

/** What the same checks refuse elsewhere than in a function has a code of its own. */
export const refusedAs = <T>(
  code: 'invalid_model' | 'invalid_scaling_group' | 'invalid_engine' | 'invalid_drift',
  check: () => T,
): T => {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof SluiceError) || error.code !== 'invalid_function') throw error;
    throw new SluiceError(code, error.message.slice(0, DETAIL_MAX), error.extra);
  }
};
