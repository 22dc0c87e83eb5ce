/** A span for each call, where a tracing SDK is set up; without one the caller's traceparent is kept as it came. */
import type { IncomingHttpHeaders } from 'node:http';
import { context, propagation, ROOT_CONTEXT, SpanKind, trace } from '@opentelemetry/api';
import { traceparentOf } from './options.ts';

const tracer = trace.getTracer('sluice');
/** Whether an SDK records is asked once for so many calls: asking costs more than the rest of a small call's admission. */
const ASK_EVERY = 1024;
let asked = 0;
let isRecording = false;

const startRecorded = (functionName: string, rows: number, headers: IncomingHttpHeaders): string | null => {
  const parent = propagation.extract(ROOT_CONTEXT, headers);
  const attributes = { 'sluice.function': functionName, 'sluice.rows': rows };
  const span = tracer.startSpan('sluice.call', { kind: SpanKind.PRODUCER, attributes }, parent);
  isRecording = span.isRecording();
  const carrier: Record<string, string> = {};
  if (isRecording) propagation.inject(trace.setSpan(context.active(), span), carrier);
  // The span is the admission; the batch's span links to it, and so to all that follows.
  span.end();
  return carrier.traceparent ?? traceparentOf(headers);
};

/** Starts and ends the call's span; returns the traceparent that is kept with the call. */
export const startCallSpan = (
  functionName: string,
  rows: number,
  headers: IncomingHttpHeaders,
): string | null => {
  const ask = asked === 0;
  asked = (asked + 1) % ASK_EVERY;
  return isRecording || ask ? startRecorded(functionName, rows, headers) : traceparentOf(headers);
};
