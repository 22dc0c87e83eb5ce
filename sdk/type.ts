/** Constructors of types for `defineFunction`; the TypeScript type of a value follows from them. */
import type { FieldJson, TimeUnit, TypeJson } from '../shared/domain/function.ts';

declare const value: unique symbol;

/** A type with its values' TypeScript type, which exists for the compiler only. */
export type Type<T> = {
  readonly json: TypeJson;
  readonly nullable: boolean;
  readonly [value]?: T;
};

export type ValueOf<X> = X extends Type<infer T> ? T : never;

const type = <T>(json: TypeJson, nullable = false): Type<T> => ({ json, nullable });

/** The field of a type, as a function's spec lists it. */
export const fieldOf = (name: string, { json, nullable }: Type<unknown>): FieldJson => ({
  name,
  type: json,
  nullable,
});

const item = (inner: Type<unknown>): FieldJson => fieldOf('item', inner);

export const t = {
  string: () => type<string>('utf8'),
  bool: () => type<boolean>('bool'),
  int8: () => type<number>('int8'),
  int16: () => type<number>('int16'),
  int32: () => type<number>('int32'),
  /** Numbers up to 2^53; beyond that results come as bigint. */
  int64: () => type<number | bigint>('int64'),
  uint8: () => type<number>('uint8'),
  uint16: () => type<number>('uint16'),
  uint32: () => type<number>('uint32'),
  uint64: () => type<number | bigint>('uint64'),
  float32: () => type<number>('float32'),
  float64: () => type<number>('float64'),
  /** The same as float64. */
  number: () => type<number>('float64'),
  binary: () => type<Uint8Array>('binary'),
  date: () => type<Date>('date32'),
  timestamp: (unit: TimeUnit = 'ms', tz: string | null = 'UTC') => type<Date>({ timestamp: unit, tz }),
  /** Any JSON value; in Arrow a text column. */
  json: <T = unknown>() => type<T>('json'),
  list: <T>(inner: Type<T>) => type<ArrayLike<T> & Iterable<T>>({ list: item(inner) }),
  fixedList: <T>(inner: Type<T>, size: number) =>
    type<ArrayLike<T> & Iterable<T>>({ fixed_size_list: item(inner), size }),
  struct: <S extends Readonly<Record<string, Type<unknown>>>>(fields: S) =>
    type<{ readonly [K in keyof S]: ValueOf<S[K]> }>({
      struct: Object.entries(fields).map(([name, inner]) => fieldOf(name, inner)),
    }),
  nullable: <T>(inner: Type<T>) => type<T | null>(inner.json, true),
};
