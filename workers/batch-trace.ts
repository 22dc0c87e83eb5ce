/** A span for each handler run, linked to the trace of each call whose rows it holds. No SDK registered: no cost. */
import {
  type Link,
  type Span,
  type SpanContext,
  SpanStatusCode,
  TraceFlags,
  trace,
} from '@opentelemetry/api';
import type { LeasedBatch } from '../shared/store/ports/queue.ts';

const tracer = trace.getTracer('sluice');
/** Span links at most; OpenTelemetry's own default limit for a span. */
const LINKS_MAX = 128;

/** https://www.w3.org/TR/trace-context/#traceparent-header */
const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;

const contextOf = (traceparent: string): SpanContext | null => {
  const match = TRACEPARENT.exec(traceparent);
  if (!match) return null;
  const [, traceId, spanId, flags] = match as unknown as [string, string, string, string];
  return { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & TraceFlags.SAMPLED, isRemote: true };
};

const linksOf = (leased: LeasedBatch): Link[] => {
  const links: Link[] = [];
  for (const { traceparent } of leased.calls) {
    const context = traceparent === null || links.length === LINKS_MAX ? null : contextOf(traceparent);
    if (context) links.push({ context });
  }
  return links;
};

export const startBatchSpan = (leased: LeasedBatch, functionName: string, rows: number): Span =>
  tracer.startSpan(`sluice.batch ${functionName}`, {
    links: linksOf(leased),
    attributes: {
      'sluice.function': functionName,
      'sluice.batch': leased.batchId,
      'sluice.attempt': leased.attempts + 1,
      'sluice.rows': rows,
      'sluice.reason': leased.reason,
    },
  });

export const endBatchSpan = (span: Span, end: string, message: string | null): void => {
  span.setAttribute('sluice.end', end);
  if (message !== null) span.setStatus({ code: SpanStatusCode.ERROR, message });
  span.end();
};

/** What the handler goes on with: the batch's own span where spans are recorded, else the only call's trace. */
export const traceparentOf = (span: Span, leased: LeasedBatch): string | null => {
  const { traceId, spanId, traceFlags } = span.spanContext();
  if (span.isRecording()) return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`;
  return leased.calls.length === 1 ? (leased.calls[0]?.traceparent ?? null) : null;
};
