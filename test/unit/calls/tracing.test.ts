/** Call spans, on OpenTelemetry's own SDK. */
import { trace } from '@opentelemetry/api';
import {
  AlwaysOnSampler,
  InMemorySpanExporter,
  ParentBasedSampler,
  SimpleSpanProcessor,
  TracerProvider,
} from '@opentelemetry/sdk-trace';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { callTraceparent, startCallSpan, traceAdmission } from '../../../services/calls/tracing.ts';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { silentLog } from '../../../shared/runtime/log.ts';
import { startTracing } from '../../../shared/runtime/tracing.ts';
import type { Admitted } from '../../../shared/store/ports/queue.ts';
import { CallIds } from '../../../shared/wire/call-id.ts';

const traceOf = (at: number): string => at.toString(16).padStart(32, '0');
const parentOf = (at: number, isSampled: boolean): string =>
  `00-${traceOf(at)}-${'c'.repeat(16)}-0${isSampled ? 1 : 0}`;

const ids = new CallIds('generation');
const ADMITTED = { callId: 7 } as Admitted;

it('is none where nobody wants traces, and the traceparent is kept as it came', () => {
  const headers = { traceparent: parentOf(1, true) };
  expect(startCallSpan('f', 1, headers)).toBeNull();
  expect(callTraceparent(null, headers)).toBe(headers.traceparent);
});

describe('of an SDK that was there before', () => {
  const exporter = new InMemorySpanExporter();
  beforeAll(async () => {
    const sampler = new ParentBasedSampler({ root: new AlwaysOnSampler() });
    trace.setGlobalTracerProvider(
      new TracerProvider({ sampler, spanProcessors: [new SimpleSpanProcessor({ exporter })] }),
    );
    await startTracing({ settings: null, role: 'all', log: silentLog(), variables: {} });
  });
  beforeEach(() => exporter.reset());
  afterAll(() => trace.disable());

  it('are those of the callers that sampled, each in its own trace', async () => {
    for (let at = 1; at <= 20_000; at += 1) {
      const headers = { traceparent: parentOf(at, at % 10 === 0) };
      const span = startCallSpan('f', 1, headers);
      if (span === null) expect(callTraceparent(span, headers)).toBe(headers.traceparent);
      else await traceAdmission(span, Promise.resolve(ADMITTED), ids);
    }
    const traces = exporter.getFinishedSpans().map((span) => span.spanContext().traceId);
    expect(traces).toEqual(Array.from({ length: 2000 }, (_, at) => traceOf((at + 1) * 10)));
  });

  it('have the call that was admitted, and are what is kept with it', async () => {
    const span = startCallSpan('f', 3, {});
    expect(callTraceparent(span, {})).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/);
    await traceAdmission(span, Promise.resolve(ADMITTED), ids);
    const [ended] = exporter.getFinishedSpans();
    expect(ended!.attributes).toEqual({
      'sluice.function': 'f',
      'sluice.rows': 3,
      'sluice.call': ids.encode(7),
    });
  });

  it('are an error where the call was refused', async () => {
    const refusal = new SluiceError('queue_full', 'There is no room.');
    const span = startCallSpan('f', 1, { traceparent: 'nonsense' });
    await expect(traceAdmission(span, Promise.reject(refusal), ids)).rejects.toBe(refusal);
    const [ended] = exporter.getFinishedSpans();
    expect(ended!.parentSpanContext).toBeUndefined();
    expect(ended!.status).toEqual({ code: 2, message: refusal.message });
    expect(ended!.attributes['error.type']).toBe('queue_full');
  });
});
