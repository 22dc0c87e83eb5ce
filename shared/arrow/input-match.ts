/** Does a stream fit the function's inputs? Only casts that lose nothing, whatever the values, are allowed. */
import { createHash } from 'node:crypto';
import type { FieldJson, TypeJson } from '../domain/function.ts';
import { SluiceError } from '../errors/sluice-error.ts';
import { type ArrayData, isValidAt } from './array-node.ts';
import type { ArrowStream } from './stream.ts';
import { hasAny, sameType, TIME_UNITS, typeText } from './type-text.ts';
import { dictionaryEntry, firstJsonMisfit } from './value-text.ts';

const listText = (fields: readonly FieldJson[]): string =>
  fields.map((f) => `"${f.name}" ${typeText(f.type)}${f.nullable ? '' : ' not null'}`).join(', ') || 'none';

const mismatch = (detail: string, field: string, row?: number): never => {
  throw new SluiceError('schema_mismatch', detail, { field, row });
};

/** Columns by name in a fixed order, since the order in which a caller sends them says nothing. */
export function schemaKeyOf(fields: readonly FieldJson[]): string {
  const sorted = [...fields].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  return createHash('sha256').update(JSON.stringify(sorted)).digest('hex').slice(0, 12);
}

/**
 * Matches the stream's columns with the inputs by name; null inputs take any table.
 * @returns schemaKey: '' when all inputs are concrete, else a digest of the actual schema
 * @throws SluiceError `schema_mismatch` naming the column, its type, and what was expected
 */
export function matchInputs(stream: ArrowStream, inputs: readonly FieldJson[] | null): { schemaKey: string } {
  const names = new Set<string>();
  for (const { name } of stream.fields) {
    if (names.has(name)) mismatch(`column "${name}" is there twice`, name);
    names.add(name);
  }
  if (inputs === null) return { schemaKey: schemaKeyOf(stream.fields) };
  const extra = stream.fields.find((field) => inputs.every((input) => input.name !== field.name));
  if (extra !== undefined)
    mismatch(
      `column "${extra.name}" is no input of the function; its inputs are ${listText(inputs)}`,
      extra.name,
    );
  for (const input of inputs) matchInput(stream, input, inputs);
  return { schemaKey: inputs.some((input) => hasAny(input.type)) ? schemaKeyOf(stream.fields) : '' };
}

function matchInput(stream: ArrowStream, input: FieldJson, inputs: readonly FieldJson[]): void {
  const { name, type } = input;
  const at = stream.fields.findIndex((field) => field.name === name);
  if (at < 0) {
    mismatch(
      `column "${name}" is missing; the inputs are ${listText(inputs)}, the stream has ${listText(stream.fields)}`,
      name,
    );
  }
  const actual = stream.fields[at]!.type;
  if (!castsTo(actual, type))
    mismatch(
      `column "${name}" is ${typeText(actual)}, which does not cast to ${typeText(type)} without loss`,
      name,
    );
  for (const batch of stream.batches) {
    const column = batch.columns[at]!;
    const row = input.nullable ? -1 : firstNull(column);
    if (row >= 0)
      mismatch(
        `column "${name}" is not nullable, but row ${batch.from + row} is null`,
        name,
        batch.from + row,
      );
    // Found here, a bad text costs its caller a refusal; in the handler it would cost its whole batch.
    const bad = type === 'json' && !isStruct(actual) ? firstJsonMisfit(column) : null;
    if (bad !== null)
      mismatch(
        `column "${name}", row ${batch.from + bad.row}: the text ${bad.why}`,
        name,
        batch.from + bad.row,
      );
  }
}

/** First null row, -1 when there is none; a dictionary's null values count. */
export function firstNull(array: ArrayData): number {
  if (array.node.layout.kind === 'null') return array.length > 0 ? 0 : -1;
  const nullValues = array.dictionary?.chunks.some((chunk) => chunk.nullCount > 0) ?? false;
  if (array.validity === null && !nullValues) return -1;
  for (let row = 0; row < array.length; row++) if (isNullAt(array, row)) return row;
  return -1;
}

export function isNullAt(array: ArrayData, row: number): boolean {
  if (array.node.layout.kind === 'null' || !isValidAt(array.validity, row)) return true;
  const entry = array.dictionary === null ? null : dictionaryEntry(array, row);
  return entry !== null && !isValidAt(entry.chunk.validity, entry.row);
}

type Numeric = { readonly kind: 'int' | 'uint' | 'float'; readonly bits: number };

function numeric(type: TypeJson): Numeric | null {
  const match = typeof type === 'string' ? /^(u?int|float)(\d+)$/.exec(type) : null;
  return match === null ? null : { kind: match[1] as Numeric['kind'], bits: Number(match[2]) };
}

/** Bits of integers that a float of so many bits holds exactly. */
const EXACT_BITS: Readonly<Record<number, number>> = { 16: 11, 32: 24, 64: 53 };

function numberCasts(from: Numeric, to: Numeric): boolean {
  if (from.kind === to.kind) return from.bits <= to.bits;
  if (to.kind === 'float') return from.kind !== 'float' && from.bits <= EXACT_BITS[to.bits]!;
  return from.kind === 'uint' && to.kind === 'int' && from.bits < to.bits;
}

const TEXT = new Set(['utf8', 'large_utf8']);
const BINARY = new Set(['binary', 'large_binary']);

/** True when every value of `from` is a value of `to`. */
export function castsTo(from: TypeJson, to: TypeJson): boolean {
  if (to === 'any' || from === 'null' || sameType(from, to)) return true;
  if (typeof from !== 'string' && 'dictionary' in from) {
    if (typeof to === 'string' || !('dictionary' in to)) return castsTo(from.dictionary, to);
    return castsTo(from.dictionary, to.dictionary) && castsTo(from.index, to.index);
  }
  if (to === 'json') return from === 'utf8' || from === 'large_utf8' || isStruct(from);
  const [a, b] = [numeric(from), numeric(to)];
  if (a !== null && b !== null) return numberCasts(a, b);
  if (typeof to === 'string') return plainCasts(from, to);
  return typeof from === 'string' ? false : nestedCasts(from, to);
}

const isStruct = (type: TypeJson): boolean => typeof type !== 'string' && 'struct' in type;

function plainCasts(from: TypeJson, to: string): boolean {
  if (typeof from !== 'string') return BINARY.has(to) && 'fixed_size_binary' in from;
  if (from === 'json') return TEXT.has(to);
  if (from === 'date32') return to === 'date64';
  return (TEXT.has(from) && TEXT.has(to)) || (BINARY.has(from) && BINARY.has(to));
}

type Parametric = Exclude<TypeJson, string>;

const itemOf = (type: Parametric): TypeJson | null =>
  'list' in type
    ? type.list.type
    : 'large_list' in type
      ? type.large_list.type
      : 'fixed_size_list' in type
        ? type.fixed_size_list.type
        : null;

const isFiner = (from: string, to: string): boolean =>
  (TIME_UNITS as readonly string[]).indexOf(from) <= (TIME_UNITS as readonly string[]).indexOf(to);

function nestedCasts(from: Parametric, to: Parametric): boolean {
  const [a, b] = [itemOf(from), itemOf(to)];
  if (a !== null && b !== null) {
    if ('fixed_size_list' in to && !('fixed_size_list' in from && from.size === to.size)) return false;
    return castsTo(a, b);
  }
  if ('struct' in from && 'struct' in to)
    return (
      from.struct.length === to.struct.length &&
      from.struct.every((f, i) => f.name === to.struct[i]!.name && castsTo(f.type, to.struct[i]!.type))
    );
  if ('map' in from && 'map' in to)
    return castsTo(from.map[0].type, to.map[0].type) && castsTo(from.map[1].type, to.map[1].type);
  if ('timestamp' in from && 'timestamp' in to)
    return (from.tz === null) === (to.tz === null) && isFiner(from.timestamp, to.timestamp);
  if ('time' in from && 'time' in to) return isFiner(from.time, to.time);
  if ('duration' in from && 'duration' in to) return isFiner(from.duration, to.duration);
  if (!('decimal' in from && 'decimal' in to)) return false;
  const [p1, s1] = from.decimal;
  const [p2, s2] = to.decimal;
  return s2 >= s1 && p2 - s2 >= p1 - s1;
}
