/** Refusals that name one row of what was sent, such as a null in a column that takes none. */
import { SluiceError } from '../shared/errors/sluice-error.ts';
import type { RowErrorJson } from '../shared/wire/api.ts';

/** Where the words name it, by the server and by the check before sending: they count within what was sent. */
const NAMED_ROW = /^((?:column ".*?"(?:,| is not nullable, but) )?row )\d+\b/s;

const isRefusal = (error: unknown): error is SluiceError =>
  error instanceof SluiceError && (error.code === 'invalid_request' || error.code === 'schema_mismatch');

/** Fewer rows may do. */
export const isTooLarge = (error: unknown): error is SluiceError =>
  error instanceof SluiceError && error.code === 'payload_too_large';

/** The row that a refusal is of, from 0; null where it is another error or of no one row. */
export const refusedRow = (error: unknown): number | null =>
  isRefusal(error) && typeof error.extra.row === 'number' ? error.extra.row : null;

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
