/**
 * A span for each call, from its submission to its admission, in the trace of its caller. Where nobody wants traces, or the
 * caller's is not sampled, the caller's traceparent is kept as it came. A batch's span links to those of its calls.
 */
import type { IncomingHttpHeaders } from 'node:http';
import { ROOT_CONTEXT, type Span, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import {
  type ActiveTracer,
  activeTracer,
  spanContextOf,
  traceparentText,
} from '../../shared/runtime/tracing.ts';
import type { Admission, Admitted } from '../../shared/store/ports/queue.ts';
import type { CallIds } from '../../shared/wire/call-id.ts';
import { traceparentOf } from './options.ts';

/** `span` has the admission's traceparent, and ends with it; null: none is recorded. */
export type TracedAdmission = { readonly admission: Admission; readonly span: Span | null };

/** @returns null: none is recorded */
export const startCallSpan = (
  functionName: string,
  rows: number,
  headers: IncomingHttpHeaders,
): Span | null => {
  const tracer = activeTracer();
  return tracer === null ? null : startRecorded(tracer, functionName, rows, headers);
};

const startRecorded = (
  tracer: ActiveTracer,
  functionName: string,
  rows: number,
  headers: IncomingHttpHeaders,
): Span | null => {
  const { tracestate } = headers;
  const traceparent = traceparentOf(headers);
  const state = typeof tracestate === 'string' ? tracestate : undefined;
  const caller = traceparent === null ? null : spanContextOf(traceparent, state);
  const parent = caller === null ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, caller);
  const attributes = { 'sluice.function': functionName, 'sluice.rows': rows };
  const span = tracer.startSpan('sluice.call', { kind: SpanKind.PRODUCER, attributes }, parent);
  return span.isRecording() ? span : null;
};

/** The traceparent that is kept with the call. */
export const callTraceparent = (span: Span | null, headers: IncomingHttpHeaders): string | null =>
  span === null ? traceparentOf(headers) : traceparentText(span.spanContext());

/** Ends the span with the admission, as it ends. */
export const traceAdmission = (
  span: Span | null,
  admitting: Promise<Admitted>,
  ids: CallIds,
): Promise<Admitted> => (span === null ? admitting : endWith(span, admitting, ids));

const endWith = async (span: Span, admitting: Promise<Admitted>, ids: CallIds): Promise<Admitted> => {
  try {
    const admitted = await admitting;
    span.setAttribute('sluice.call', ids.encode(admitted.callId));
    return admitted;
  } catch (error) {
    const { message } = error as Error;
    span.setAttribute('error.type', error instanceof SluiceError ? error.code : 'internal');
    span.setStatus({ code: SpanStatusCode.ERROR, message });
    throw error;
  } finally {
    span.end();
  }
};
