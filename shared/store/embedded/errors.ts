import { type ErrorCode, isErrorCode } from '../../errors/catalogue.ts';
import { BugError, SluiceError } from '../../errors/sluice-error.ts';
import type { ErrorMessage } from './messages.ts';

export const toErrorMessage = (error: unknown): ErrorMessage => {
  if (error instanceof SluiceError) return { code: error.code, detail: error.message, extra: error.extra };
  return { code: null, detail: error instanceof Error ? error.message : String(error), extra: {} };
};

/** The error of another thread, with the stack of the caller that waits for it. */
export const fromErrorMessage = (message: ErrorMessage): Error => {
  if (message.code !== null && isErrorCode(message.code)) {
    return new SluiceError(message.code satisfies ErrorCode, message.detail, message.extra);
  }
  const error = new BugError('');
  error.message = message.detail;
  return error;
};

const SQLITE_FULL = 13;

/** The disk has no room: what was written is undone and admissions are refused, nothing is lost. */
export const isNoSpace = (error: unknown): boolean => {
  const { code, errcode } = error as { code?: string; errcode?: number };
  return (
    code === 'ENOSPC' || code === 'EDQUOT' || (errcode !== undefined && (errcode & 0xff) === SQLITE_FULL)
  );
};

/** SQLite's results that speak of the disk, memory or the file, not of the request: PERM to NOMEM, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB. */
const DISK_RESULTS = new Set([3, 5, 6, 7, 8, 9, 10, 11, SQLITE_FULL, 14, 26]);

export const isDiskError = (error: unknown): boolean => {
  const { syscall, errcode } = error as { syscall?: string; errcode?: number };
  return (
    syscall !== undefined || isNoSpace(error) || (errcode !== undefined && DISK_RESULTS.has(errcode & 0xff))
  );
};
