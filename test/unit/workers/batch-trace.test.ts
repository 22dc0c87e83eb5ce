import { trace } from '@opentelemetry/api';
import { InMemorySpanExporter, SimpleSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { silentLog } from '../../../shared/runtime/log.ts';
import { LINKS_MAX } from '../../../shared/runtime/trace-settings.ts';
import { startTracing } from '../../../shared/runtime/tracing.ts';
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

const exporter = new InMemorySpanExporter();
const parent = `00-${TRACE}-${SPAN}-01`;
const OK = { run: { end: 'ok', refused: [] }, output: null } as const;

const start = (variables: Record<string, string> = {}) =>
  startTracing({ settings: null, role: 'all', log: silentLog(), variables });

describe('a batch span', () => {
  it('is none where nobody wants traces, and the only trace there is goes on', async () => {
    await start();
    expect(startBatchSpan(batch([parent]), 'f', 1)).toBeNull();
    expect(traceparentOf(null, batch([parent]))).toBe(parent);
    expect(traceparentOf(null, batch([parent, parent]))).toBeNull();
    endBatchSpan(null, OK);
  });

  describe('of an SDK that was there before', () => {
    beforeAll(() => {
      const spanProcessors = [new SimpleSpanProcessor({ exporter })];
      trace.setGlobalTracerProvider(
        new TracerProvider({ spanProcessors, spanLimits: { linkCountLimit: 2 * LINKS_MAX } }),
      );
      return start();
    });
    beforeEach(() => exporter.reset());
    afterAll(() => trace.disable());

    it('links to the trace of every call, and leaves out what is no traceparent', () => {
      endBatchSpan(startBatchSpan(batch([parent, null, 'nonsense']), 'embed', 3), OK);
      const [span] = exporter.getFinishedSpans();
      expect(span!.name).toBe('sluice.batch embed');
      expect(span!.links).toMatchObject([
        { context: { traceId: TRACE, spanId: SPAN, traceFlags: 1, isRemote: true } },
      ]);
      expect(span!.attributes).toMatchObject({ 'sluice.batch': 7, 'sluice.attempt': 2, 'sluice.calls': 3 });
    });

    it('keeps links up to the limit, those of sampled calls first, and says how many it cut', () => {
      const unsampled = Array.from({ length: 500 }, () => `00-${TRACE}-${SPAN}-00`);
      const sampled = Array.from({ length: LINKS_MAX }, () => parent);
      endBatchSpan(startBatchSpan(batch(sampled), 'f', LINKS_MAX), OK);
      endBatchSpan(startBatchSpan(batch([...unsampled, ...sampled]), 'f', LINKS_MAX + 500), OK);
      const [whole, cut] = exporter.getFinishedSpans();
      expect(whole!.links).toHaveLength(LINKS_MAX);
      expect(whole!.attributes).not.toHaveProperty('sluice.links_dropped');
      expect(cut!.links.filter(({ context }) => context.traceFlags === 1)).toHaveLength(LINKS_MAX);
      expect(cut!.attributes['sluice.links_dropped']).toBe(500);
    });

    it('is an error with what the handler raised, and goes on as the trace of the handler', () => {
      const span = startBatchSpan(batch([parent]), 'f', 1);
      const { traceId, spanId } = span!.spanContext();
      expect(traceparentOf(span, batch([parent]))).toBe(`00-${traceId}-${spanId}-01`);
      const error = { code: 'handler_error', kind: 'ValueError', message: 'no' };
      endBatchSpan(span, { run: { end: 'error', error, mro: [] }, output: null });
      const [ended] = exporter.getFinishedSpans();
      expect(ended!.status).toEqual({ code: 2, message: 'no' });
      expect(ended!.attributes).toMatchObject({ 'error.type': 'ValueError', 'sluice.end': 'error' });
    });
  });
});
