/** A span for each handler run, linked to the trace of each call whose rows it holds. Where nobody wants traces there is none. */
import { type Link, type Span, SpanKind, SpanStatusCode } from '@opentelemetry/api';
import { activeTracer, spanContextOf, traceparentText } from '../shared/runtime/tracing.ts';
import type { LeasedBatch } from '../shared/store/ports/queue.ts';
import type { Verdict } from './settling.ts';

const linksOf = (leased: LeasedBatch): Link[] => {
  const links: Link[] = [];
  for (const { traceparent } of leased.calls) {
    const context = traceparent === null ? null : spanContextOf(traceparent);
    if (context) links.push({ context });
  }
  return links;
};

/** Sampled calls go before others where there are more than a span may have. */
const within = (links: Link[], linksMax: number): Link[] =>
  links.length <= linksMax
    ? links
    : links.toSorted((a, b) => b.context.traceFlags - a.context.traceFlags).slice(0, linksMax);

/** @returns null: nobody wants traces */
export const startBatchSpan = (leased: LeasedBatch, functionName: string, rows: number): Span | null => {
  const tracer = activeTracer();
  if (tracer === null) return null;
  const found = linksOf(leased);
  const links = within(found, tracer.linksMax);
  return tracer.startSpan(`sluice.batch ${functionName}`, {
    kind: SpanKind.CONSUMER,
    links,
    attributes: {
      'sluice.function': functionName,
      'sluice.batch': leased.batchId,
      'sluice.attempt': leased.attempts + 1,
      'sluice.rows': rows,
      'sluice.calls': leased.calls.length,
      'sluice.reason': leased.reason,
      ...(found.length > links.length && { 'sluice.links_dropped': found.length - links.length }),
    },
  });
};

/** @param verdict null: the handler never began, or its answer is dropped */
export const endBatchSpan = (span: Span | null, verdict: Verdict | null): void => {
  if (span === null) return;
  span.setAttribute('sluice.end', verdict === null ? 'none' : verdict.run.end);
  if (verdict?.run.end === 'ok') {
    const { length } = verdict.run.refused;
    if (length > 0) span.setAttribute('sluice.rows_failed', length);
  } else if (verdict !== null) {
    const { code, kind, message } = verdict.run.error;
    span.setAttribute('error.type', kind ?? code);
    span.setStatus({ code: SpanStatusCode.ERROR, message });
  }
  span.end();
};

/** What the handler goes on with: the batch's own span where it is recorded, else the only call's trace. */
export const traceparentOf = (span: Span | null, leased: LeasedBatch): string | null => {
  if (span?.isRecording()) return traceparentText(span.spanContext());
  return leased.calls.length === 1 ? (leased.calls[0]?.traceparent ?? null) : null;
};
