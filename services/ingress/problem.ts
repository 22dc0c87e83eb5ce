/** Problem documents (RFC 9457) for everything that goes wrong, fastify's and Node's own errors included. */
import type { ServerResponse } from 'node:http';
import { CATALOGUE, type ErrorCode } from '../../shared/errors/catalogue.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { PROBLEM_JSON } from '../../shared/wire/api.ts';

export type Problem = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
};

const RETRY_AFTER_SECONDS = 2;

/** @param status other than the catalogue's, where HTTP has a closer one (408, 431) */
export const problemOf = (error: SluiceError, status: number = error.status): Problem => {
  const { title, fix, retryable } = CATALOGUE[error.code];
  const headers: Record<string, string> = { 'content-type': PROBLEM_JSON };
  const { retry_after_seconds: after, allow } = error.extra;
  if (status === 429 || status === 503 || status === 507) {
    headers['retry-after'] = String(typeof after === 'number' ? after : RETRY_AFTER_SECONDS);
  }
  if (status === 401) headers['www-authenticate'] = 'Bearer realm="sluice"';
  if (typeof allow === 'string') headers.allow = allow;
  const document = {
    type: `https://sluice.dev/errors/${error.code}`,
    title,
    status,
    detail: error.message,
    code: error.code,
    retryable,
    fix,
    ...error.extra,
  };
  return { status, headers, body: JSON.stringify(document) };
};

type Failure = { readonly code?: unknown; readonly statusCode?: unknown; readonly message?: unknown };

/** fastify's errors by their code. */
const FASTIFY: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: 'payload_too_large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported_media_type',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'invalid_request',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'invalid_json',
  FST_ERR_CTP_INVALID_JSON_BODY: 'invalid_json',
  FST_ERR_BAD_URL: 'invalid_request',
  FST_ERR_ASYNC_CONSTRAINT: 'invalid_request',
  FST_ERR_MAX_PARAM_LENGTH: 'not_found',
};

/** Whatever was thrown as an error of the catalogue; null: nobody expected it, and the log must have it. */
export const expectedError = (thrown: unknown): SluiceError | null => {
  if (thrown instanceof SluiceError) return thrown;
  const { code, statusCode, message } = (thrown ?? {}) as Failure;
  const text = typeof message === 'string' ? message : String(thrown);
  if (typeof code === 'string' && FASTIFY[code] !== undefined) {
    return new SluiceError(FASTIFY[code], sentence(text));
  }
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    return new SluiceError('invalid_request', sentence(text));
  }
  return null;
};

const sentence = (text: string): string => (/[.!?]$/.test(text) ? text : `${text}.`);

export const internalError = (requestId: string): SluiceError =>
  new SluiceError('internal', `Something broke that should not; the server log has it under ${requestId}.`);

/** Node's own refusals of what is no proper HTTP, before there is a request. */
const PARSER: Readonly<Record<string, readonly [number, string]>> = {
  HPE_HEADER_OVERFLOW: [431, 'The request headers are larger than 16 KiB.'],
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'The request did not arrive in time.'],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: [413, 'The chunk extensions are too large.'],
};

/** The whole answer to a connection whose bytes are no request. */
export const rawProblem = (
  code: string | undefined,
  reason: string | undefined,
  requestId: string,
): string => {
  const [status, detail] = PARSER[code ?? ''] ?? [400, `The request is not valid HTTP: ${reason ?? code}.`];
  const { headers, body } = problemOf(new SluiceError('invalid_request', detail), status);
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  return [
    `HTTP/1.1 ${status} ${REASONS[status] ?? 'Bad Request'}`,
    ...lines,
    `content-length: ${Buffer.byteLength(body)}`,
    `x-request-id: ${requestId}`,
    'connection: close',
    '',
    body,
  ].join('\r\n');
};

const REASONS: Readonly<Record<number, string>> = {
  408: 'Request Timeout',
  413: 'Content Too Large',
  431: 'Request Header Fields Too Large',
};

/** For routes that write their answers themselves. */
export const writeProblem = (response: ServerResponse, problem: Problem, requestId: string): void => {
  if (response.headersSent || response.destroyed) {
    response.destroy();
    return;
  }
  response.writeHead(problem.status, {
    ...problem.headers,
    'content-length': String(Buffer.byteLength(problem.body)),
    'x-request-id': requestId,
  });
  response.end(problem.body);
};
