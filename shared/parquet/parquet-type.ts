/** What Parquet holds of Arrow's types. */
import type { FieldJson, TypeJson } from '../domain/function.ts';

/**
 * The type that is written: dictionaries as their values, seconds as milliseconds, `date64` as the time that it is, and as
 * JSON texts a struct without members and decimals whose scale is negative or above their precision. All else stays.
 */
export function parquetType(type: TypeJson): TypeJson {
  if (typeof type === 'string') return type === 'date64' ? { timestamp: 'ms', tz: null } : type;
  if ('dictionary' in type) return parquetType(type.dictionary);
  if ('list' in type) return { list: parquetField(type.list) };
  if ('large_list' in type) return { large_list: parquetField(type.large_list) };
  if ('fixed_size_list' in type) return { ...type, fixed_size_list: parquetField(type.fixed_size_list) };
  if ('struct' in type) return type.struct.length === 0 ? 'json' : { struct: type.struct.map(parquetField) };
  if ('map' in type)
    return { map: [{ ...parquetField(type.map[0]), nullable: false }, parquetField(type.map[1])] };
  if ('decimal' in type) {
    const [precision, scale] = type.decimal;
    return scale < 0 || scale > precision ? 'json' : type;
  }
  if ('timestamp' in type) return type.timestamp === 's' ? { ...type, timestamp: 'ms' } : type;
  if ('time' in type) return type.time === 's' ? { time: 'ms' } : type;
  return 'fixed_size_binary' in type && type.fixed_size_binary === 0 ? 'binary' : type;
}

/** Everything may be null: so files differ in their columns alone. */
export const parquetField = ({ name, type }: FieldJson): FieldJson => ({
  name,
  type: parquetType(type),
  nullable: true,
});
