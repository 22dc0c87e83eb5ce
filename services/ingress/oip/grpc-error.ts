/** Errors of the catalogue as gRPC statuses: the code that says the same, the text, and what HTTP would have in headers. */
import { Metadata, status } from '@grpc/grpc-js';
import type { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { problemOf } from '../problem.ts';
import { oipText } from './oip-error.ts';

const BY_HTTP: Readonly<Record<number, status>> = {
  400: status.INVALID_ARGUMENT,
  401: status.UNAUTHENTICATED,
  403: status.PERMISSION_DENIED,
  404: status.NOT_FOUND,
  406: status.FAILED_PRECONDITION,
  409: status.FAILED_PRECONDITION,
  410: status.NOT_FOUND,
  413: status.RESOURCE_EXHAUSTED,
  415: status.INVALID_ARGUMENT,
  422: status.INVALID_ARGUMENT,
  429: status.RESOURCE_EXHAUSTED,
  503: status.UNAVAILABLE,
  504: status.DEADLINE_EXCEEDED,
  507: status.RESOURCE_EXHAUSTED,
};

export type GrpcStatus = { readonly code: status; readonly details: string; readonly metadata: Metadata };

/** Details travel in a header, percent-encoded, and clients take 8 KiB of headers. */
const DETAIL_CHARACTERS_MAX = 1000;

export const grpcStatus = (error: SluiceError): GrpcStatus => {
  const problem = problemOf(error);
  const metadata = new Metadata();
  metadata.set('sluice-error', error.code);
  const after = problem.headers['retry-after'];
  if (after !== undefined) metadata.set('retry-after', after);
  return {
    code: BY_HTTP[error.status] ?? status.INTERNAL,
    details: oipText(error, DETAIL_CHARACTERS_MAX),
    metadata,
  };
};
