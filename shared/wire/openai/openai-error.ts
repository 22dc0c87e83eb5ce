/** Errors of the catalogue in OpenAI's shape, whose clients choose an exception by the status and show the message. */
import type { RowError } from '../../domain/call.ts';
import { isErrorCode } from '../../errors/catalogue.ts';
import { SluiceError } from '../../errors/sluice-error.ts';

export type OpenaiErrorJson = {
  readonly error: {
    readonly message: string;
    readonly type: string;
    readonly param: string | null;
    readonly code: string | null;
  };
};

const TYPES: Readonly<Record<number, string>> = {
  401: 'authentication_error',
  403: 'permission_error',
  429: 'rate_limit_error',
};

/**
 * Statuses that mean something else to a client of OpenAI's: 409 makes it send again, and a row that the handler refused is
 * the caller's fault. A call that nobody answered in time is a gateway's timeout.
 */
const STATUSES: Readonly<Partial<Record<string, number>>> = {
  row_error: 400,
  row_expired: 504,
  row_cancelled: 503,
  request_timeout: 504,
};

export const openaiStatus = (error: SluiceError): number => STATUSES[error.code] ?? error.status;

/** The code of a model that is not there is OpenAI's own; all others are the catalogue's. */
export const openaiError = (error: SluiceError, status: number = openaiStatus(error)): OpenaiErrorJson => {
  const { field } = error.extra;
  const type = TYPES[status] ?? (status < 500 ? 'invalid_request_error' : 'server_error');
  return {
    error: {
      message: error.message,
      type,
      param: typeof field === 'string' ? field : null,
      code: error.code === 'function_not_found' ? 'model_not_found' : error.code,
    },
  };
};

/** A row's error as that of the request that it is of. `field`: the input that the row was. */
export const rowFailure = (error: RowError, field: string): SluiceError => {
  const code = isErrorCode(error.code) ? error.code : 'handler_error';
  const kind = error.kind === undefined ? '' : `${error.kind}: `;
  return new SluiceError(code, `${kind}${error.message}`, { field });
};
