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

const decode = (bytes: Uint8Array): arrow.Table => {
  const options = { useDate: true, useMap: true };
  return arrow.tableFromIPC(bytes, options);
};

const valuesOf = (bytes: Uint8Array): { table: arrow.Table; values: unknown[] } => {
  const table = decode(bytes);
  const column = table.getChild('result');
  if (!column) return { table, values: [] };
  try {
    return { table, values: Array.from(column) };
  } catch (error) {
    // Integers beyond 2^53 have no number: the whole column comes as bigint then.
    if (!String(error).includes('BigInt')) throw error;
    const wide = arrow.tableFromIPC(bytes, { useDate: true, useMap: true, useBigInt: true });
    return { table: wide, values: Array.from(wide.getChild('result')!) };
  }
};

/** Lists of numbers without nulls come as typed arrays, structs as objects, dates as Date, json as the value itself. */
export const decodeResult = (bytes: Uint8Array): DecodedResult => {
  const { table, values } = valuesOf(bytes);
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
