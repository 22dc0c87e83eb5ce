/** Arrow types as docs/API.md writes them: checked, named for people, compared. */
import type { FieldJson, TimeUnit, TypeJson } from '../domain/function.ts';
import { SluiceError } from '../errors/sluice-error.ts';

/** Types that are a bare name. `json` and `any` are ours, the others are Arrow's. */
export const PLAIN_TYPES: ReadonlySet<string> = new Set(
  (
    'null bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 ' +
    'utf8 large_utf8 binary large_binary date32 date64 json any'
  ).split(' '),
);

export const TIME_UNITS: readonly TimeUnit[] = ['s', 'ms', 'us', 'ns'];

/** Deeper types than this are refused: readers of other languages recurse over them. */
export const DEPTH_MAX = 64;
/** Columns of one stream at most; a table wider than this is a mistake or an attack. */
export const COLUMNS_MAX = 4096;
/** Fields of all levels at most: a flatbuffer may point to one field many times, so depth alone bounds nothing. */
export const NODES_MAX = 16_384;

const INDEX_TYPES = /^u?int(8|16|32|64)$/;
const FIXED_SIZE_MAX = 2 ** 31 - 1;

type Variant = Readonly<Record<string, unknown>>;

/** 'list<float64>' for humans. */
export function typeText(type: TypeJson): string {
  if (typeof type === 'string') return type;
  if ('list' in type) return `list<${fieldText(type.list)}>`;
  if ('large_list' in type) return `large_list<${fieldText(type.large_list)}>`;
  if ('fixed_size_list' in type) return `fixed_size_list<${fieldText(type.fixed_size_list)}>[${type.size}]`;
  if ('struct' in type) return `struct<${type.struct.map((f) => `${f.name}: ${fieldText(f)}`).join(', ')}>`;
  if ('map' in type) return `map<${fieldText(type.map[0])}, ${fieldText(type.map[1])}>`;
  if ('dictionary' in type) return `dictionary<${type.index}, ${typeText(type.dictionary)}>`;
  if ('timestamp' in type) return `timestamp[${type.timestamp}${type.tz === null ? '' : `, ${type.tz}`}]`;
  if ('time' in type) return `time[${type.time}]`;
  if ('duration' in type) return `duration[${type.duration}]`;
  if ('decimal' in type) return `decimal${type.bits}(${type.decimal[0]}, ${type.decimal[1]})`;
  return `fixed_size_binary[${type.fixed_size_binary}]`;
}

const fieldText = (field: FieldJson): string => `${typeText(field.type)}${field.nullable ? '' : ' not null'}`;

/**
 * The same Arrow type: names and nullability of list items and of map entries do not count, since writers choose
 * them freely ("item", "element"); names of struct fields do.
 */
export function sameType(a: TypeJson, b: TypeJson): boolean {
  return canonicalText(a) === canonicalText(b);
}

function canonicalText(type: TypeJson): string {
  if (typeof type === 'string') return type;
  if ('list' in type) return `list<${canonicalText(type.list.type)}>`;
  if ('large_list' in type) return `large_list<${canonicalText(type.large_list.type)}>`;
  if ('fixed_size_list' in type)
    return `fixed_size_list<${canonicalText(type.fixed_size_list.type)}>[${type.size}]`;
  if ('struct' in type)
    return `struct<${type.struct.map((f) => `${JSON.stringify(f.name)}:${canonicalText(f.type)}`).join()}>`;
  if ('map' in type) return `map<${canonicalText(type.map[0].type)},${canonicalText(type.map[1].type)}>`;
  if ('dictionary' in type) return `dictionary<${type.index},${canonicalText(type.dictionary)}>`;
  return typeText(type);
}

/**
 * Validates a type that comes from outside (a deploy).
 * @param where names the place in the error, such as `output.type`.
 * @throws SluiceError `invalid_function`
 */
export function parseType(value: unknown, where: string): TypeJson {
  return parseAt(value, where, 0);
}

const refuse = (where: string, what: string): never => {
  throw new SluiceError('invalid_function', `${where}: ${what}`, { field: where });
};

function parseAt(value: unknown, where: string, depth: number): TypeJson {
  if (depth >= DEPTH_MAX) return refuse(where, `types nest at most ${DEPTH_MAX} levels deep`);
  if (typeof value === 'string') {
    if (PLAIN_TYPES.has(value)) return value;
    return refuse(where, `"${value}" is not a type; names are ${[...PLAIN_TYPES].join(', ')}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return refuse(where, `a type is a name or an object, not ${JSON.stringify(value)}`);
  return parseVariant(value as Variant, where, depth) ?? parseParametric(value as Variant, where);
}

/** Types that hold other types. */
function parseVariant(v: Variant, where: string, depth: number): TypeJson | null {
  const field = (x: unknown, at: string): FieldJson => parseField(x, at, depth + 1);
  if ('list' in v) return { list: field(v.list, `${where}.list`) };
  if ('large_list' in v) return { large_list: field(v.large_list, `${where}.large_list`) };
  if ('fixed_size_list' in v) {
    const size = integer(v.size, 0, FIXED_SIZE_MAX, `${where}.size`);
    return { fixed_size_list: field(v.fixed_size_list, `${where}.fixed_size_list`), size };
  }
  if ('struct' in v) {
    if (!Array.isArray(v.struct) || v.struct.length > COLUMNS_MAX)
      return refuse(`${where}.struct`, `must be a list of at most ${COLUMNS_MAX} fields`);
    return { struct: v.struct.map((f, i) => field(f, `${where}.struct[${i}]`)) };
  }
  if ('map' in v) {
    if (!Array.isArray(v.map) || v.map.length !== 2)
      return refuse(`${where}.map`, 'must be [key field, item field]');
    return { map: [field(v.map[0], `${where}.map[0]`), field(v.map[1], `${where}.map[1]`)] };
  }
  if (!('dictionary' in v)) return null;
  const index = v.index ?? 'int32';
  if (typeof index !== 'string' || !INDEX_TYPES.test(index))
    return refuse(`${where}.index`, 'must be an integer type such as "int32"');
  return {
    dictionary: parseAt(v.dictionary, `${where}.dictionary`, depth + 1),
    index,
    ordered: v.ordered === true,
  };
}

function parseParametric(v: Variant, where: string): TypeJson {
  if ('timestamp' in v) {
    const tz = v.tz ?? null;
    if (tz !== null && typeof tz !== 'string')
      return refuse(`${where}.tz`, 'must be a time zone name or null');
    return { timestamp: unit(v.timestamp, `${where}.timestamp`), tz };
  }
  if ('time' in v) return { time: unit(v.time, `${where}.time`) };
  if ('duration' in v) return { duration: unit(v.duration, `${where}.duration`) };
  if ('decimal' in v) {
    const bits = v.bits ?? 128;
    if (bits !== 128 && bits !== 256) return refuse(`${where}.bits`, 'must be 128 or 256');
    if (!Array.isArray(v.decimal) || v.decimal.length !== 2)
      return refuse(`${where}.decimal`, 'must be [precision, scale]');
    const precision = integer(v.decimal[0], 1, bits === 128 ? 38 : 76, `${where}.decimal[0]`);
    const scale = integer(v.decimal[1], -precision, precision, `${where}.decimal[1]`);
    return { decimal: [precision, scale], bits };
  }
  if ('fixed_size_binary' in v)
    return {
      fixed_size_binary: integer(v.fixed_size_binary, 0, FIXED_SIZE_MAX, `${where}.fixed_size_binary`),
    };
  return refuse(where, `no type has the members ${Object.keys(v).join(', ') || '(none)'}`);
}

function parseField(value: unknown, where: string, depth: number): FieldJson {
  if (typeof value !== 'object' || value === null)
    return refuse(where, 'a field is {"name", "type", "nullable"}');
  const { name, type, nullable } = value as Variant;
  if (typeof name !== 'string') return refuse(`${where}.name`, 'must be a string');
  return { name, type: parseAt(type, `${where}.type`, depth), nullable: nullable !== false };
}

function integer(value: unknown, min: number, max: number, where: string): number {
  if (!Number.isInteger(value) || (value as number) < min || (value as number) > max)
    return refuse(where, `must be an integer from ${min} to ${max}, not ${JSON.stringify(value)}`);
  return value as number;
}

function unit(value: unknown, where: string): TimeUnit {
  if (!TIME_UNITS.includes(value as TimeUnit))
    return refuse(where, `must be one of ${TIME_UNITS.join(', ')}, not ${JSON.stringify(value)}`);
  return value as TimeUnit;
}

/** True when the type or one inside of it is "any". */
export function hasAny(type: TypeJson): boolean {
  if (typeof type === 'string') return type === 'any';
  if ('dictionary' in type) return hasAny(type.dictionary);
  if ('list' in type) return hasAny(type.list.type);
  if ('large_list' in type) return hasAny(type.large_list.type);
  if ('fixed_size_list' in type) return hasAny(type.fixed_size_list.type);
  if ('struct' in type) return type.struct.some((field) => hasAny(field.type));
  return 'map' in type && type.map.some((field) => hasAny(field.type));
}
