import { INVALID_SPAN_CONTEXT, type SpanOptions, type TracerProvider, trace } from '@opentelemetry/api';
import { afterAll, describe, expect, it } from 'vitest';
import type { LeasedBatch } from '../../../shared/store/ports/queue.ts';
import { endBatchSpan, startBatchSpan, traceparentOf } from '../../../workers/batch-trace.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const SPAN = 'b7ad6b7169203331';

const batch = (traceparents: readonly (string | null)[]): LeasedBatch => ({
  batchId: 7,
  versionId: 1,
  token: 't',
  attempts: 1,
  claims: 0,
  mode: 'retry',
  reason: 'age',
  leaseUntil: 0,
  slices: traceparents.map((_, at) => ({ callId: at, from: 0, count: 1 })),
  calls: traceparents.map((traceparent, at) => ({
    callId: at,
    rows: 1,
    payload: { kind: 'json', text: '[["a"]]' },
    arrivedAt: 0,
    deadlineAt: null,
    metadata: {},
    traceparent,
  })),
});

/** An OpenTelemetry SDK in miniature: keeps what spans were started with. */
const recorder = () => {
  const started: { name: string; options: SpanOptions | undefined }[] = [];
  const startSpan = (name: string, options?: SpanOptions) => {
    started.push({ name, options });
    return trace.wrapSpanContext(INVALID_SPAN_CONTEXT);
  };
  const tracer = { startSpan, startActiveSpan: () => undefined };
  const provider = { getTracer: () => tracer } as unknown as TracerProvider;
  trace.setGlobalTracerProvider(provider);
  return started;
};

afterAll(() => trace.disable());

describe('a batch span', () => {
  it('links to the trace of every call, and leaves out what is no traceparent', () => {
    const started = recorder();
    const leased = batch([`00-${TRACE}-${SPAN}-01`, null, 'nonsense']);
    const span = startBatchSpan(leased, 'embed', 3);
    endBatchSpan(span, 'ok', null);
    expect(started).toHaveLength(1);
    expect(started[0]?.name).toBe('sluice.batch embed');
    expect(started[0]?.options?.links).toEqual([
      { context: { traceId: TRACE, spanId: SPAN, traceFlags: 1, isRemote: true } },
    ]);
    expect(started[0]?.options?.attributes).toMatchObject({ 'sluice.batch': 7, 'sluice.attempt': 2 });
  });

  it('hands on the only trace there is when nothing records', () => {
    const parent = `00-${TRACE}-${SPAN}-01`;
    expect(traceparentOf(startBatchSpan(batch([parent]), 'f', 1), batch([parent]))).toBe(parent);
    expect(traceparentOf(startBatchSpan(batch([parent]), 'f', 1), batch([parent, parent]))).toBeNull();
  });
});
