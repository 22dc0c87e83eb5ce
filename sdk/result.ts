/** Results: the Arrow stream of a call made into one value a row and the errors by row. */
import * as arrow from '@uwdata/flechette';
import { jsonWithBigInts } from '../shared/arrow/exact-json.ts';
import { DAY_MS, dateText, decimalText, timestampText } from '../shared/arrow/time-text.ts';
import type { RowErrorJson } from '../shared/wire/api.ts';

export type DecodedResult = {
  /** One entry a row; null where the row is in `errors` (or where the handler gave null). */
  readonly values: unknown[];
  readonly errors: Map<number, RowErrorJson>;
};

/** Field metadata of the server's utf8 columns that hold JSON texts. */
const TYPE_KEY = 'sluice.type';

const EXTRACTION: arrow.ExtractionOptions = { useDate: true, useMap: true, useDecimalInt: true };

type TextOf = (value: bigint) => string;

/** A moment whose JSON is the server's text, with the digits beyond milliseconds and without a zone where it has none. */
class Moment extends Date {
  readonly #value: bigint;
  readonly #textOf: TextOf;

  constructor(ms: number, value: bigint, textOf: TextOf) {
    super(ms);
    this.#value = value;
    this.#textOf = textOf;
  }

  override toJSON(): string {
    return this.#textOf(this.#value);
  }
}

type Batch = arrow.Batch<unknown>;
type DictionaryBatch = Batch & { dictionary?: arrow.Column<unknown>; cache?: unknown[] };
type ValueAt = (row: number) => unknown;
type Type = {
  readonly typeId: number;
  readonly scale?: number;
  readonly unit?: number;
  readonly timezone?: string | null;
};

const UNITS = ['s', 'ms', 'us', 'ns'] as const;

/** How a batch's values are read, where the library's way loses something; `read` is the library's. */
const exactReader = (batch: Batch, read: ValueAt): ValueAt | null => {
  const { typeId, scale = 0, unit = 0, timezone = null } = batch.type as unknown as Type;
  if (typeId === arrow.Type.Decimal) return (row) => decimalText(BigInt(read(row) as bigint), scale);
  if (typeId !== arrow.Type.Date && typeId !== arrow.Type.Timestamp) return null;
  const perDay = unit === arrow.DateUnit.DAY ? 1 : DAY_MS;
  const textOf: TextOf =
    typeId === arrow.Type.Date
      ? (value) => dateText(Number(value) / perDay)
      : (value) => timestampText(value, UNITS[unit]!, timezone);
  const values = batch.values as BigInt64Array | Int32Array;
  return (row) => new Moment(Number(read(row)), BigInt(values[row]!), textOf);
};

/** Reads batches of all levels exactly, those of dictionaries among them, whose values are kept. */
const makeExact = (batch: Batch): void => {
  if (Object.hasOwn(batch, 'value')) return;
  const { children, dictionary } = batch as DictionaryBatch;
  for (const child of children ?? []) makeExact(child as Batch);
  if (dictionary) {
    for (const values of dictionary.data) makeExact(values);
    (batch as DictionaryBatch).cache = Array.from(dictionary);
  }
  const read = exactReader(batch, batch.value.bind(batch));
  if (read !== null) batch.value = read;
};

const valuesOf = (table: arrow.Table): unknown[] => {
  const column = table.getChild('result');
  if (!column) return [];
  for (const batch of column.data) makeExact(batch as Batch);
  return Array.from(column);
};

/** With numbers for the bigints that are exact as such. */
const narrowed = (value: unknown): unknown => {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  if (Array.isArray(value)) return value.map(narrowed);
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype)
    return value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, narrowed(member)]));
};

const allValues = (table: arrow.Table, bytes: Uint8Array): unknown[] => {
  try {
    return valuesOf(table);
  } catch (error) {
    // Integers beyond 2^53 have no number: the whole column comes as bigint then, and the others are numbers again.
    if (!String(error).includes('BigInt')) throw error;
    return valuesOf(arrow.tableFromIPC(bytes, { ...EXTRACTION, useBigInt: true })).map(narrowed);
  }
};

/**
 * Lists of numbers without nulls come as typed arrays, structs as objects, dates and timestamps as Date whose `toJSON` is
 * exact, decimals as text, json as the value itself with integers beyond 2^53 as bigint.
 * @throws SluiceError `not_acceptable` for such an integer where the engine rounds it
 */
export const decodeResult = (bytes: Uint8Array): DecodedResult => {
  const table = arrow.tableFromIPC(bytes, EXTRACTION);
  const values = allValues(table, bytes);
  const field = table.schema.fields.find(({ name }) => name === 'result');
  const isJson = field?.metadata?.get(TYPE_KEY) === 'json';
  const errors = new Map<number, RowErrorJson>();
  const texts = table.getChild('error');
  if (texts) {
    let row = 0;
    for (const text of texts) {
      if (text !== null) errors.set(row, JSON.parse(text as string) as RowErrorJson);
      row++;
    }
  }
  return {
    values: isJson ? values.map((text) => (text === null ? null : jsonWithBigInts(text as string))) : values,
    errors,
  };
};
