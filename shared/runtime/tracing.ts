/**
 * The tracer of this thread. It is set once, when the thread starts, and null where nobody wants traces: then a call or a batch
 * costs one look at it. The SDK is loaded where it is wanted alone.
 */
import {
  createTraceState,
  type ProxyTracerProvider,
  type SpanContext,
  TraceFlags,
  type Tracer,
  trace,
} from '@opentelemetry/api';
import type { Log } from './log.ts';
import { linksMaxOf, type TraceSettings } from './trace-settings.ts';

export type ActiveTracer = Pick<Tracer, 'startSpan'> & {
  /** Of one span. */
  readonly linksMax: number;
};

export type Tracing = {
  /** Sends what has ended, while more may come. */
  readonly flush: () => Promise<void>;
  /** Sends what has ended and takes no more. False: the collector did not take it in time, and is still being asked. */
  readonly stop: (withinMs: number) => Promise<boolean>;
};

export type TracingOptions = {
  /** null: the environment asks for no traces. */
  readonly settings: TraceSettings | null;
  readonly role: string;
  readonly log: Log;
  /** OpenTelemetry's variables. */
  readonly variables: Readonly<Record<string, string>>;
};

const UNTRACED: Tracing = { flush: async () => undefined, stop: async () => true };

let active: ActiveTracer | null = null;

export const activeTracer = (): ActiveTracer | null => active;

const NAME = 'sluice';

/** An SDK that `node --import` has set up is used as it is; whoever set it up sends what waits. */
const isPreloaded = (): boolean => {
  const provider = trace.getTracerProvider() as Partial<ProxyTracerProvider>;
  return provider.getDelegateTracer?.(NAME) !== undefined;
};

export const startTracing = async (options: TracingOptions): Promise<Tracing> => {
  if (isPreloaded()) {
    const tracer = trace.getTracer(NAME);
    active = { startSpan: tracer.startSpan.bind(tracer), linksMax: linksMaxOf(options.variables) };
    return UNTRACED;
  }
  const { settings, role, log } = options;
  if (settings === null) return UNTRACED;
  const { startSdk } = await import('./trace-sdk.ts');
  const { tracer, ...tracing } = startSdk(settings, role, log);
  active = { startSpan: tracer.startSpan.bind(tracer), linksMax: settings.linksMax };
  return {
    flush: tracing.flush,
    stop: (withinMs) => {
      active = null;
      return tracing.stop(withinMs);
    },
  };
};

/** https://www.w3.org/TR/trace-context/#traceparent-header */
const TRACEPARENT =
  /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$/;

export const isTraceparent = (text: string): boolean => TRACEPARENT.test(text);

/** @returns null for what is no traceparent */
export const spanContextOf = (traceparent: string, tracestate?: string): SpanContext | null => {
  const match = TRACEPARENT.exec(traceparent);
  if (!match) return null;
  const [, traceId, spanId, flags] = match as unknown as [string, string, string, string];
  const traceFlags = Number.parseInt(flags, 16) & TraceFlags.SAMPLED;
  const context = { traceId, spanId, traceFlags, isRemote: true };
  return tracestate === undefined ? context : { ...context, traceState: createTraceState(tracestate) };
};

export const traceparentText = ({ traceId, spanId, traceFlags }: SpanContext): string =>
  `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`;
