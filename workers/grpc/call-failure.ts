/** What a failed CallFunction is to the queue: a handler's error, a wrong answer, or a crash of the replica. */
import { type ServiceError, status } from '@grpc/grpc-js';
import type { HandlerAnswer, HandlerOutput } from '../handler.ts';

/** Envelopes lie in each other at most this deep. */
const ENVELOPES_MAX = 3;
/** Trailers of our own entry point: what the contract's JSON has no member for. */
const MRO_TRAILER = 'x-sluice-mro';
const CODE_TRAILER = 'x-sluice-code';
const CLASSES_MAX = 64;

type RemoteException = { readonly kind: string; readonly message: string; readonly traceback: string };

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
};

const textMember = (value: object, name: string): string | null => {
  const member = Reflect.get(value, name);
  return typeof member === 'string' ? member : null;
};

/**
 * The exception in a status message: `{"chalk_remote_error": 1, "exception": {kind, message, stacktrace, …}}`, by itself or in
 * envelopes `{"exc_type", "message": "…"}`; null when it is plain text.
 */
export const remoteException = (text: string, depth = 0): RemoteException | null => {
  const value = parsed(text);
  if (typeof value !== 'object' || value === null) return null;
  const exception = Reflect.get(value, 'exception');
  if (Reflect.get(value, 'chalk_remote_error') === 1 && typeof exception === 'object' && exception !== null) {
    const kind = textMember(exception, 'kind');
    const message = textMember(exception, 'message');
    if (kind === null || message === null) return null;
    const traceback = textMember(exception, 'stacktrace') || textMember(exception, 'internal_stacktrace');
    return { kind, message, traceback: traceback ?? '' };
  }
  const inner = textMember(value, 'exc_type') === null ? null : textMember(value, 'message');
  return inner === null || depth >= ENVELOPES_MAX ? null : remoteException(inner, depth + 1);
};

const trailer = (error: ServiceError, name: string): string | null => {
  const [value] = error.metadata?.get(name) ?? [];
  return typeof value === 'string' ? value : null;
};

/** The replica is gone, or nothing of what it says can be trusted any more. */
export const isCrash = (error: ServiceError): boolean =>
  error.code === status.UNAVAILABLE || (error.code === status.INTERNAL && /RST_STREAM/.test(error.details));

/** Limits of a server or of ours, which a smaller batch keeps. */
const isTooLarge = (error: ServiceError): boolean =>
  /message length too large|message larger than max|larger than \d+ bytes/i.test(error.details);

const plainFailure = (error: ServiceError): RemoteException => {
  const kind = isTooLarge(error) ? 'MessageTooLarge' : `gRPC ${status[error.code]}`;
  return { kind, message: error.details || 'no message', traceback: '' };
};

/** The answer of a failed call; `outputs`: what had come before the failure. */
export const failureOf = (error: ServiceError, outputs: readonly HandlerOutput[]): HandlerAnswer => {
  const exception = remoteException(error.details);
  if (exception === null && isCrash(error)) {
    const message = `the handler's server ended: ${error.details}`;
    return { end: 'crash', error: { code: 'handler_crashed', message }, outputs };
  }
  const { kind, message, traceback } = exception ?? plainFailure(error);
  const isInvalid = trailer(error, CODE_TRAILER) === 'handler_output_invalid';
  const code = isInvalid ? 'handler_output_invalid' : 'handler_error';
  const mro = trailer(error, MRO_TRAILER)?.split(',').slice(0, CLASSES_MAX) ?? [kind];
  return {
    end: 'error',
    error: { code, kind, message, ...(traceback === '' ? {} : { traceback }) },
    mro: exception === null ? [] : mro,
    outputs,
  };
};
