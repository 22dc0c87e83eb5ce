/** Results: the Arrow stream of a call made into one value a row and the errors by row. */
import * as arrow from '@uwdata/flechette';
import type { RowErrorJson } from '../shared/wire/api.ts';

export type DecodedResult = {
  /** One entry a row; null where the row is in `errors` (or where the handler gave null). */
  readonly values: unknown[];
  readonly errors: Map<number, RowErrorJson>;
};

/** Field metadata of the server's utf8 columns that hold JSON texts. */
const TYPE_KEY = 'sluice.type';

const EXTRACTION: arrow.ExtractionOptions = { useDate: true, useMap: true };

/** 12345n with scale 2 → '123.45': a decimal has no exact number. */
const decimalText = (value: bigint, scale: number): string => {
  if (scale <= 0) return `${value}${'0'.repeat(-scale)}`;
  const digits = (value < 0n ? -value : value).toString().padStart(scale + 1, '0');
  return `${value < 0n ? '-' : ''}${digits.slice(0, -scale)}.${digits.slice(-scale)}`;
};

const decimalValues = (bytes: Uint8Array, scale: number): unknown[] => {
  const column = arrow.tableFromIPC(bytes, { useDecimalInt: true }).getChild('result')!;
  return Array.from(column, (value) => (value === null ? null : decimalText(BigInt(value as bigint), scale)));
};

const valuesOf = (table: arrow.Table, bytes: Uint8Array): unknown[] => {
  const column = table.getChild('result');
  if (!column) return [];
  const type = column.type as { typeId: number; scale?: number };
  if (type.typeId === arrow.Type.Decimal) return decimalValues(bytes, type.scale ?? 0);
  try {
    return Array.from(column);
  } catch (error) {
    // Integers beyond 2^53 have no number: the whole column comes as bigint then.
    if (!String(error).includes('BigInt')) throw error;
    return Array.from(arrow.tableFromIPC(bytes, { ...EXTRACTION, useBigInt: true }).getChild('result')!);
  }
};

/**
 * Lists of numbers without nulls come as typed arrays, structs as objects, dates and timestamps as Date, decimals as
 * text, json as the value itself.
 */
export const decodeResult = (bytes: Uint8Array): DecodedResult => {
  const table = arrow.tableFromIPC(bytes, EXTRACTION);
  const values = valuesOf(table, bytes);
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
    values: isJson ? values.map((text) => (text === null ? null : JSON.parse(text as string))) : values,
    errors,
  };
};
