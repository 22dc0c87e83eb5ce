/** OpenTelemetry's SDK for this thread, with an OTLP exporter over HTTP. Imported where traces are wanted alone (tracing.ts). */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { type DiagLogger, DiagLogLevel, diag, type Link, TraceFlags, type Tracer } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import {
  detectResources,
  resourceAttributesEnvDetector,
  resourceFromAttributes,
  serviceNameEnvDetector,
} from '@opentelemetry/resources';
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  ParentBasedSampler,
  type Sampler,
  SamplingDecision,
  type SamplingResult,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace';
import type { Log } from './log.ts';
import { REQUESTS_BY_LINKS, SpanSending } from './span-sending.ts';
import type { SamplerSettings, TraceSettings } from './trace-settings.ts';
import type { Tracing } from './tracing.ts';

/** A batch has no parent but the calls that it links to: it is traced when one of them is. */
class LinkBasedSampler implements Sampler {
  readonly #root: Sampler;

  constructor(root: Sampler) {
    this.#root = root;
  }

  shouldSample(...given: Parameters<Sampler['shouldSample']>): SamplingResult {
    const links: readonly Link[] = given[5];
    if (links.length === 0) return this.#root.shouldSample(...given);
    const isTraced = links.some(({ context }) => (context.traceFlags & TraceFlags.SAMPLED) !== 0);
    return { decision: isTraced ? SamplingDecision.RECORD_AND_SAMPLED : SamplingDecision.NOT_RECORD };
  }

  toString(): string {
    return `LinkBased{root=${this.#root}}`;
  }
}

const rootOf = ({ root, ratio }: SamplerSettings): Sampler => {
  if (root === 'always_off') return new AlwaysOffSampler();
  return root === 'always_on' ? new AlwaysOnSampler() : new TraceIdRatioBasedSampler(ratio);
};

const samplerOf = (settings: SamplerSettings): Sampler => {
  const root = rootOf(settings);
  return settings.followsParent ? new ParentBasedSampler({ root: new LinkBasedSampler(root) }) : root;
};

/** What the environment says goes before. Not the command line, which the SDK's own detector takes: it may hold passwords. */
const resourceOf = (role: string) => {
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  const own = resourceFromAttributes({
    'service.name': 'sluice',
    'service.version': version,
    'host.name': hostname(),
    'process.pid': process.pid,
    'sluice.role': role,
  });
  return own.merge(detectResources({ detectors: [resourceAttributesEnvDetector, serviceNameEnvDetector] }));
};

/** Different sentences of the SDK that are logged; the same one again is not. */
const SENTENCES_MAX = 20;

/** What the SDK has to say beside failures to send, such as a variable that it cannot read. */
const diagnosticsTo = (log: Log): DiagLogger => {
  const said = new Set<string>();
  const say = (sentence: string): void => {
    if (said.size >= SENTENCES_MAX || said.has(sentence)) return;
    said.add(sentence);
    log.warn(`OpenTelemetry: ${sentence}`);
  };
  const pass = (): void => undefined;
  return { error: say, warn: say, info: pass, debug: pass, verbose: pass };
};

/** Waits that a stop allows a collector, and one that did not answer before. */
const STOP_MS_MAX = 3000;
const STOP_MS_AWAY = 500;

const within = (work: Promise<unknown>, ms: number): Promise<boolean> => {
  const late = Promise.withResolvers<boolean>();
  const timer = setTimeout(late.resolve, ms, false);
  const done = work.then(
    () => true,
    () => true,
  );
  return Promise.race([done, late.promise]).finally(() => clearTimeout(timer));
};

export const startSdk = (settings: TraceSettings, role: string, log: Log): Tracing & { tracer: Tracer } => {
  diag.setLogger(diagnosticsTo(log), { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true });
  // A flush sends all that waits at once, in requests of `sentSpansMax`.
  const concurrencyLimit =
    2 * Math.ceil(settings.waitingSpansMax / settings.sentSpansMax) + REQUESTS_BY_LINKS;
  const sending = new SpanSending({ exporter: new OTLPTraceExporter({ concurrencyLimit }), settings, log });
  const provider = new TracerProvider({
    resource: resourceOf(role),
    sampler: samplerOf(settings.sampler),
    spanLimits: { linkCountLimit: settings.linksMax },
    spanProcessors: [sending],
  });
  return {
    tracer: provider.getTracer('sluice'),
    flush: () => provider.forceFlush().catch(() => undefined),
    stop: async (withinMs) => {
      const limitMs = sending.isAway ? STOP_MS_AWAY : STOP_MS_MAX;
      const isDone = await within(provider.shutdown(), Math.min(withinMs, limitMs));
      if (!isDone) sending.abandon();
      return isDone;
    },
  };
};
