/** Spans on their way to a collector that is slow, or that takes no large requests. */
import { ROOT_CONTEXT } from '@opentelemetry/api';
import { type ReadableSpan, type SpanExporter, TracerProvider } from '@opentelemetry/sdk-trace';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { SpanSending } from '../../../shared/runtime/span-sending.ts';
import { traceSettings } from '../../../shared/runtime/trace-settings.ts';

type Done = Parameters<SpanExporter['export']>[1];

const LINK = { context: { traceId: '1'.repeat(32), spanId: '2'.repeat(16), traceFlags: 1 } };

/** A collector that answers when the test says so. */
const sendingTo = (variables: Record<string, string>) => {
  const requests: { readonly spans: readonly ReadableSpan[]; readonly done: Done }[] = [];
  const exporter: SpanExporter = {
    export: (spans, done) => requests.push({ spans, done }),
    shutdown: async () => undefined,
  };
  const said: string[] = [];
  const log = pino({ base: null }, { write: (line: string) => said.push(JSON.parse(line).msg) });
  const settings = traceSettings({ OTEL_TRACES_EXPORTER: 'otlp', ...variables }, () => undefined)!;
  const sending = new SpanSending({ exporter, settings, log });
  const provider = new TracerProvider({
    spanProcessors: [sending],
    spanLimits: { linkCountLimit: Number.POSITIVE_INFINITY },
  });
  const tracer = provider.getTracer('test');
  const end = (links = 0): void =>
    tracer.startSpan('span', { links: new Array(links).fill(LINK) }, ROOT_CONTEXT).end();
  return { sending, requests, said, end };
};

describe('spans that wait', () => {
  it('are as many as they may be until the collector has answered; more are dropped, which is told once', () => {
    const { sending, requests, said, end } = sendingTo({ OTEL_BSP_MAX_QUEUE_SIZE: '3' });
    for (let at = 0; at < 5; at += 1) end();
    expect(requests.map(({ spans }) => spans.length)).toEqual([3]);
    expect(said).toEqual([expect.stringMatching(/^spans end faster than the collector takes them/)]);
    end();
    requests[0]!.done({ code: 0 });
    end();
    void sending.forceFlush();
    expect(requests.map(({ spans }) => spans.length)).toEqual([3, 1]);
    expect(said).toHaveLength(1);
  });

  it('are few where each has many links', () => {
    const { requests, said, end } = sendingTo({});
    for (let at = 0; at < 40; at += 1) end(10_000);
    expect(requests.map(({ spans }) => spans.length).reduce((sum, one) => sum + one, 0)).toBeLessThan(27);
    expect(said).toHaveLength(1);
  });

  it('are sent at once where they have many links, in requests that a collector takes', () => {
    const { requests, end } = sendingTo({});
    for (let at = 0; at < 4; at += 1) end(20_000);
    expect(requests.map(({ spans }) => spans.length)).toEqual([1, 1, 1, 1]);
    end(300_000);
    expect(requests).toHaveLength(4);
    for (const { done } of [...requests]) done({ code: 0 });
    end(300_000);
    expect(requests.at(-1)!.spans[0]!.links).toHaveLength(300_000);
  });
});

it('tells of a collector that is away once for all threads, and once when it is back', () => {
  const { sending, requests, said, end } = sendingTo({});
  for (let at = 0; at < 3; at += 1) {
    end();
    void sending.forceFlush();
    requests.at(-1)!.done({ code: 1, error: new Error('connect ECONNREFUSED') });
  }
  expect(sending.isAway).toBe(true);
  end();
  void sending.forceFlush();
  requests.at(-1)!.done({ code: 0 });
  expect(said).toEqual([
    'the collector does not take traces; they are dropped until it does',
    'the collector takes traces again',
  ]);
});
