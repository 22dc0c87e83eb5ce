/** Types of docs/API.md as types of flechette, which encodes and decodes Arrow in browsers as well. */
import * as arrow from '@uwdata/flechette';
import type { FieldJson, TypeJson } from '../shared/domain/function.ts';
import { SluiceError } from '../shared/errors/sluice-error.ts';

const PLAIN: Readonly<Record<string, () => arrow.DataType>> = {
  null: arrow.nullType,
  bool: arrow.bool,
  int8: arrow.int8,
  int16: arrow.int16,
  int32: arrow.int32,
  int64: arrow.int64,
  uint8: arrow.uint8,
  uint16: arrow.uint16,
  uint32: arrow.uint32,
  uint64: arrow.uint64,
  float16: arrow.float16,
  float32: arrow.float32,
  float64: arrow.float64,
  utf8: arrow.utf8,
  large_utf8: arrow.largeUtf8,
  binary: arrow.binary,
  large_binary: arrow.largeBinary,
  date32: arrow.dateDay,
  date64: arrow.dateMillisecond,
  json: arrow.utf8,
};

const UNITS = {
  s: arrow.TimeUnit.SECOND,
  ms: arrow.TimeUnit.MILLISECOND,
  us: arrow.TimeUnit.MICROSECOND,
  ns: arrow.TimeUnit.NANOSECOND,
};

const fieldOf = (field: FieldJson): arrow.Field =>
  arrow.field(field.name, dataType(field.type, field.name), field.nullable);

/** The Arrow type that values are written in. `name` is the column's, for the message of a type with no encoding. */
export const dataType = (type: TypeJson, name: string): arrow.DataType => {
  if (typeof type === 'string') {
    const plain = PLAIN[type];
    if (plain) return plain();
    throw new SluiceError(
      'schema_mismatch',
      `Column "${name}" has the type ${type}, which has no encoding here.`,
    );
  }
  if ('list' in type) return arrow.list(fieldOf(type.list));
  if ('large_list' in type) return arrow.largeList(fieldOf(type.large_list));
  if ('fixed_size_list' in type) return arrow.fixedSizeList(fieldOf(type.fixed_size_list), type.size);
  if ('struct' in type) return arrow.struct(type.struct.map(fieldOf));
  if ('map' in type) return arrow.map(fieldOf(type.map[0]), fieldOf(type.map[1]));
  // Indices are the sender's business: the server reads a dictionary and plain values alike.
  if ('dictionary' in type) return dataType(type.dictionary, name);
  if ('timestamp' in type) return arrow.timestamp(UNITS[type.timestamp], type.tz);
  if ('time' in type) return arrow.time(UNITS[type.time]);
  if ('duration' in type) return arrow.duration(UNITS[type.duration]);
  if ('decimal' in type) return arrow.decimal(type.decimal[0], type.decimal[1], type.bits);
  return arrow.fixedSizeBinary(type.fixed_size_binary);
};

/** The type of values nobody declared: the narrowest of bool, int64, float64, utf8 that holds all of them. */
export const inferredType = (values: ArrayLike<unknown>): arrow.DataType | null => {
  if (values instanceof Float32Array) return arrow.float32();
  if (values instanceof Float64Array) return arrow.float64();
  if (ArrayBuffer.isView(values)) return null;
  const kinds = new Set<string>();
  for (let i = 0; i < values.length; i++) {
    const value = values[i];
    if (value === null || value === undefined) continue;
    kinds.add(
      typeof value === 'number' ? (Number.isSafeInteger(value) ? 'integer' : 'number') : typeof value,
    );
  }
  if (kinds.size === 0) return arrow.nullType();
  const only = (...names: string[]): boolean => [...kinds].every((kind) => names.includes(kind));
  if (only('string')) return arrow.utf8();
  if (only('boolean')) return arrow.bool();
  if (only('integer', 'bigint')) return arrow.int64();
  if (only('integer', 'number')) return arrow.float64();
  // Lists, structs and dates: flechette looks inside.
  return null;
};
