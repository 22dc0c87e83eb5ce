/** Refusals that name one row of what was sent, such as a null in a column that takes none. */
import { SluiceError } from '../shared/errors/sluice-error.ts';
import type { RowErrorJson } from '../shared/wire/api.ts';

/** How the server, and the check before sending, name a row: they count within what was sent. */
const NAMED_ROW = /^((?:column ".*?"(?:,| is not nullable, but) )?row )(\d+)\b/s;

const isRefusal = (error: unknown): error is SluiceError =>
  error instanceof SluiceError && (error.code === 'invalid_request' || error.code === 'schema_mismatch');

/** The row that a refusal names, from 0; null where it is another error or names none. */
export const refusedRow = (error: unknown): number | null => {
  const found = isRefusal(error) ? NAMED_ROW.exec(error.message) : null;
  return found === null ? null : Number(found[2]);
};

/** The refusal as the error of one row, which `row` names to the caller. */
export const refusalOf = (error: unknown, row: number): RowErrorJson => {
  const { code, message } = error as SluiceError;
  return { code, message: message.replace(NAMED_ROW, (_, before: string) => `${before}${row}`) };
};

/** The column that a refusal names. */
export const refusedColumn = (error: unknown): string | null => {
  const field = error instanceof SluiceError ? error.extra.field : null;
  return typeof field === 'string' ? field.replace(/^columns\./, '') : null;
};
