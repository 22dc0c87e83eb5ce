/**
 * What OpenTelemetry's variables say of traces, compiled once and handed to each thread. As its specification has it, a value that
 * cannot be taken is named, and the default holds.
 * https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
 */

const ROOTS = ['always_on', 'always_off', 'traceidratio'] as const;

export type SamplerSettings = {
  /** Decides where no caller and no call has decided. */
  readonly root: (typeof ROOTS)[number];
  /** Of `traceidratio`: 0 to 1. */
  readonly ratio: number;
  readonly followsParent: boolean;
};

export type TraceSettings = {
  readonly sampler: SamplerSettings;
  /** Of one span; more are counted in its `sluice.links_dropped`. */
  readonly linksMax: number;
  /** Spans that wait to be sent, and that one request carries; more are dropped, and counted. */
  readonly waitingSpansMax: number;
  readonly sentSpansMax: number;
  readonly delayMs: number;
  readonly exportTimeoutMs: number;
  /** One for all threads of the process, so that each trouble is told once: see `Trouble`. */
  readonly told: SharedArrayBuffer;
};

/** Ten times a batch of a thousand calls; a link is 280 bytes here, and 37 when it is sent. */
export const LINKS_MAX = 10_000;

type Variables = Readonly<Record<string, string>>;
type Warn = (sentence: string) => void;

/** @returns null: no traces are wanted */
export const traceSettings = (variables: Variables, warn: Warn): TraceSettings | null => {
  if (!isWanted(variables, warn)) return null;
  const protocol =
    variables.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL ?? variables.OTEL_EXPORTER_OTLP_PROTOCOL ?? 'http/protobuf';
  if (protocol !== 'http/protobuf')
    warn(
      `OTEL_EXPORTER_OTLP_PROTOCOL is ${JSON.stringify(protocol)}; traces are sent by http/protobuf alone.`,
    );
  const count = (name: string, min: number, fallback: number): number =>
    countOf(variables, name, min, fallback, warn);
  const waitingSpansMax = count('OTEL_BSP_MAX_QUEUE_SIZE', 1, 2048);
  return Object.freeze({
    sampler: samplerOf(variables, warn),
    linksMax: count('OTEL_SPAN_LINK_COUNT_LIMIT', 0, LINKS_MAX),
    waitingSpansMax,
    sentSpansMax: Math.min(waitingSpansMax, count('OTEL_BSP_MAX_EXPORT_BATCH_SIZE', 1, 512)),
    delayMs: count('OTEL_BSP_SCHEDULE_DELAY', 0, 5000),
    exportTimeoutMs: count('OTEL_BSP_EXPORT_TIMEOUT', 1, 30_000),
    told: new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT * 2),
  });
};

/** Of a process whose tracing somebody else has set up (`node --import`); the links are cut here all the same. */
export const linksMaxOf = (variables: Variables): number =>
  countOf(variables, 'OTEL_SPAN_LINK_COUNT_LIMIT', 0, LINKS_MAX, () => undefined);

const isWanted = (variables: Variables, warn: Warn): boolean => {
  if (variables.OTEL_SDK_DISABLED?.toLowerCase() === 'true') return false;
  const exporter = variables.OTEL_TRACES_EXPORTER;
  if (exporter !== undefined && exporter !== 'otlp' && exporter !== 'none')
    warn(`OTEL_TRACES_EXPORTER is ${JSON.stringify(exporter)}; give otlp or none. No traces are sent.`);
  if (exporter !== undefined) return exporter === 'otlp';
  const { OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT } = variables;
  return (OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? OTEL_EXPORTER_OTLP_ENDPOINT) !== undefined;
};

const isRoot = (name: string): name is SamplerSettings['root'] => (ROOTS as readonly string[]).includes(name);

const samplerOf = (variables: Variables, warn: Warn): SamplerSettings => {
  const { OTEL_TRACES_SAMPLER: name = 'parentbased_always_on', OTEL_TRACES_SAMPLER_ARG: arg } = variables;
  const followsParent = name.startsWith('parentbased_');
  const root = followsParent ? name.slice('parentbased_'.length) : name;
  if (!isRoot(root)) {
    const known = ROOTS.flatMap((one) => [one, `parentbased_${one}`]).join(', ');
    warn(`OTEL_TRACES_SAMPLER is ${JSON.stringify(name)}; parentbased_always_on is used. Known: ${known}.`);
    return { root: 'always_on', ratio: 1, followsParent: true };
  }
  const ratio = Number(arg ?? 1);
  if (ratio >= 0 && ratio <= 1) return { root, ratio, followsParent };
  warn(`OTEL_TRACES_SAMPLER_ARG is ${JSON.stringify(arg)}, not a number from 0 to 1; 1 is used.`);
  return { root, ratio: 1, followsParent };
};

const countOf = (variables: Variables, name: string, min: number, fallback: number, warn: Warn): number => {
  const text = variables[name];
  if (text === undefined) return fallback;
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= min) return value;
  warn(`${name} is ${JSON.stringify(text)}, not a whole number from ${min} on; ${fallback} is used.`);
  return fallback;
};
