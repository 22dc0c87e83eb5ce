/** What the client throws: the server's problems as `SluiceError`, and what only a client can meet. */
import type { ErrorCode } from '../shared/errors/catalogue.ts';
import { isErrorCode } from '../shared/errors/catalogue.ts';
import { SluiceError } from '../shared/errors/sluice-error.ts';
import type { ProblemJson, RowErrorJson } from '../shared/wire/api.ts';
import { isTooLarge, refusalOf, refusedRow } from './refused-row.ts';

export { SluiceError };

/** An error of the catalogue, or a mapping of a problem document that this version does not know. */
export const problemError = (status: number, problem: ProblemJson, text: string): SluiceError => {
  const code: ErrorCode =
    problem.code !== undefined && isErrorCode(problem.code) ? problem.code : codeOf(status);
  const detail = problem.detail ?? (text.slice(0, 300) || `The server answered ${status}.`);
  return new SluiceError(code, detail, { ...problem, status });
};

const codeOf = (status: number): ErrorCode => {
  if (status === 401) return 'unauthorized';
  if (status === 403) return 'forbidden';
  if (status === 404) return 'not_found';
  if (status === 413) return 'payload_too_large';
  if (status === 429) return 'queue_full';
  if (status === 503) return 'shutting_down';
  return status >= 500 ? 'internal' : 'invalid_request';
};

type Failed = Pick<CallFailedError, 'callId' | 'errors' | 'partial'>;

const failedText = ({ callId, errors, partial }: Failed, fromRow: number): string => {
  const [first] = errors;
  const cause = first ? `row ${fromRow + first[0]}: ${first[1].message}` : 'no row says why';
  return `${errors.size} of ${partial.length} rows of call ${callId} failed; ${cause}`;
};

/** A call with rows that are not ok. `partial` has one entry a row, null where the row is in `errors`. */
export class CallFailedError extends SluiceError {
  readonly callId: string;
  /** By row number. */
  readonly errors: ReadonlyMap<number, RowErrorJson>;
  readonly partial: readonly unknown[];

  constructor(callId: string, errors: ReadonlyMap<number, RowErrorJson>, partial: readonly unknown[]) {
    const [first] = errors;
    super(
      first && isErrorCode(first[1].code) ? first[1].code : 'handler_error',
      failedText({ callId, errors, partial }, 0),
      { call_id: callId },
    );
    this.name = 'CallFailedError';
    this.callId = callId;
    this.errors = errors;
    this.partial = partial;
  }
}

/** Why a chunk failed, with rows of the whole call; the cause's own words count within the chunk, and offer to wait. */
const chunkCause = (cause: unknown, fromRow: number, rows: number): string => {
  if (isTooLarge(cause)) {
    const lower = rows > 1 ? 'lower chunkSize or raise numChunks, or ' : '';
    const instead = `give onError: 'null' to go on without a row that is too large`;
    return `${cause.message.replace(/\.$/, '')}; ${lower}${instead}`;
  }
  const row = refusedRow(cause);
  if (row !== null) return refusalOf(cause, fromRow + row).message;
  if (cause instanceof CallFailedError) return failedText(cause, fromRow);
  if (cause instanceof TimeoutError && cause.callId !== null)
    return `its call ${cause.callId} was not finished after ${cause.timeoutMs} ms and was cancelled`;
  if (cause instanceof TimeoutError)
    return `the server had not answered after ${cause.timeoutMs} ms; where it took the call, that is cancelled`;
  return cause instanceof Error ? cause.message : String(cause);
};

/**
 * One chunk of a chunked call failed; what was in flight was cancelled. `cause` says why, and counts its rows within the
 * chunk; `fromRow` and the message count those of the whole call, from 0.
 */
export class ChunkFailedError extends SluiceError {
  readonly chunk: number;
  readonly fromRow: number;
  readonly rows: number;

  constructor(chunk: number, fromRow: number, rows: number, cause: unknown) {
    super(
      cause instanceof SluiceError ? cause.code : 'handler_error',
      `Chunk ${chunk} (rows ${fromRow} to ${fromRow + rows - 1}) failed: ${chunkCause(cause, fromRow, rows)}`,
    );
    this.name = 'ChunkFailedError';
    this.cause = cause;
    this.chunk = chunk;
    this.fromRow = fromRow;
    this.rows = rows;
  }
}

/** The wait is over and the call is not: it goes on, and `client.call(callId).get()` waits again. */
export class TimeoutError extends Error {
  readonly callId: string | null;
  readonly timeoutMs: number;

  constructor(callId: string | null, timeoutMs: number, message?: string) {
    super(
      message !== undefined
        ? message
        : callId === null
          ? `The server did not answer in ${timeoutMs} ms.`
          : `Call ${callId} is not finished after ${timeoutMs} ms; it goes on, wait again with client.call("${callId}").get().`,
    );
    this.name = 'TimeoutError';
    this.callId = callId;
    this.timeoutMs = timeoutMs;
  }
}

/** A scaling group does not serve what was deployed to it: `state` is `failed`, or `rolled_back` to what served before. */
export class DeploymentError extends SluiceError {
  readonly group: string;
  readonly state: 'failed' | 'rolled_back';
  readonly reason: string;

  constructor(group: string, state: 'failed' | 'rolled_back', reason: string) {
    const what = state === 'failed' ? 'cannot serve' : 'was rolled back';
    super('handler_unavailable', `Scaling group ${group} ${what}: ${reason}`, {
      fix: `See \`sluice groups show ${group}\` and \`sluice groups logs ${group}\`.`,
    });
    this.name = 'DeploymentError';
    this.group = group;
    this.state = state;
    this.reason = reason;
  }
}

/** Nothing answers at the server's address, or its answer breaks off. */
export class ConnectionError extends Error {
  readonly url: string;

  constructor(url: string, cause: unknown, isCut = false) {
    const nested = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
    const text = nested instanceof Error ? nested.message || nested.name : String(nested);
    const code = (nested as { code?: unknown } | null)?.code;
    const why = typeof code === 'string' ? code : text;
    super(
      isCut
        ? `The answer of the Sluice server at ${url} broke off (${why}).`
        : `No Sluice server answers at ${url} (${why}). ` +
            'Start one with `sluice dev`, or name another with the url option or SLUICE_URL.',
    );
    this.name = 'ConnectionError';
    this.url = url;
    this.cause = cause;
  }
}
