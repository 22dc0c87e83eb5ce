import { CATALOGUE, type ErrorCode } from './catalogue.ts';

/** An error of the catalogue. `detail` says what happened with the field, the value and the way out. */
export class SluiceError extends Error {
  readonly code: ErrorCode;
  /** Extra members of the problem document (`field`, `retry_after_seconds`, …). */
  readonly extra: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, detail: string, extra: Readonly<Record<string, unknown>> = {}) {
    super(detail);
    this.name = 'SluiceError';
    this.code = code;
    this.extra = extra;
  }

  get status(): number {
    return CATALOGUE[this.code].status;
  }

  get retryable(): boolean {
    return CATALOGUE[this.code].retryable;
  }
}

/** An invariant broke. The message names it; the process may be in a wrong state. */
export class BugError extends Error {
  constructor(invariant: string) {
    super(`This is a bug in Sluice, please report it: ${invariant}`);
    this.name = 'BugError';
  }
}
