/**
 * Spans on their way to the collector, in the SDK's batches. What waits is limited by spans, as OpenTelemetry has it, and by links:
 * a batch's span has one for each call, and two thousand such spans would hold gigabytes while a collector is away.
 *
 *   ended ─► wait (limits; more is dropped) ─► request ─► sent, or lost
 *
 * A span that is dropped or lost is counted, and the first one is told.
 */
import { TraceFlags } from '@opentelemetry/api';
import {
  BatchSpanProcessor,
  type ReadableSpan,
  type SpanExporter,
  type SpanProcessor,
} from '@opentelemetry/sdk-trace';
import type { Log } from './log.ts';
import type { TraceSettings } from './trace-settings.ts';

type Done = Parameters<SpanExporter['export']>[1];
type Result = Parameters<Done>[0];

/** 75 MB. One span may have more than what is left: it is taken where nothing else waits. */
const WAITING_LINKS_MAX = 2 ** 18;
/** 1.2 MB; collectors take bodies of 20 MB, and some of 4. */
const SENT_LINKS_MAX = 2 ** 15;
/** Requests that `WAITING_LINKS_MAX` may come to. */
export const REQUESTS_BY_LINKS = WAITING_LINKS_MAX / SENT_LINKS_MAX;

const SENT = 0;

/** Places in `TraceSettings.told`, each 1 while the trouble lasts: of all threads, the first that meets it tells it. */
const AWAY = 0;
const FULL = 1;

export type SpanSendingOptions = {
  readonly exporter: SpanExporter;
  readonly settings: TraceSettings;
  readonly log: Log;
};

export class SpanSending implements SpanProcessor {
  readonly #exporter: SpanExporter;
  readonly #spansMax: number;
  readonly #told: Int32Array;
  readonly #log: Log;
  readonly #batches: BatchSpanProcessor;
  #spans = 0;
  #links = 0;
  /** Links since what waits was last sent. */
  #gathered = 0;
  #lost = 0;
  isAway = false;

  constructor({ exporter, settings, log }: SpanSendingOptions) {
    this.#exporter = exporter;
    this.#spansMax = settings.waitingSpansMax;
    this.#told = new Int32Array(settings.told);
    this.#log = log;
    this.#batches = new BatchSpanProcessor({
      exporter: {
        export: (spans, done) => this.#send(spans, done),
        shutdown: () => exporter.shutdown(),
      },
      // What waits is counted here until it is sent, so that it is never full.
      maxQueueSize: settings.waitingSpansMax,
      maxExportBatchSize: settings.sentSpansMax,
      scheduledDelayMillis: settings.delayMs,
      exportTimeoutMillis: settings.exportTimeoutMs,
    });
  }

  onStart(): void {}

  onEnd(span: ReadableSpan): void {
    if ((span.spanContext().traceFlags & TraceFlags.SAMPLED) === 0) return;
    const links = span.links.length;
    const isFull = this.#spans >= this.#spansMax || this.#links + links > WAITING_LINKS_MAX;
    if (isFull && this.#spans > 0) {
      this.#drop();
      return;
    }
    this.#spans += 1;
    this.#links += links;
    this.#gathered += links;
    this.#batches.onEnd(span);
    if (this.#gathered >= SENT_LINKS_MAX) void this.forceFlush();
  }

  forceFlush(): Promise<void> {
    this.#gathered = 0;
    return this.#batches.forceFlush();
  }

  shutdown(): Promise<void> {
    return this.#batches.shutdown();
  }

  /** Failures are told here; the SDK would write each to the console. */
  #send(spans: ReadableSpan[], done: Done): void {
    const groups = byLinks(spans);
    let open = groups.length;
    for (const group of groups)
      this.#exporter.export(group, (result) => {
        this.#answered(group, result);
        open -= 1;
        if (open === 0) done({ code: SENT });
      });
  }

  #answered(group: readonly ReadableSpan[], { code, error }: Result): void {
    this.#spans -= group.length;
    for (const { links } of group) this.#links -= links.length;
    this.isAway = code !== SENT;
    if (this.isAway) {
      this.#lost += group.length;
      this.#tellAway(error?.message || (error as NodeJS.ErrnoException | undefined)?.code);
    } else if (Atomics.compareExchange(this.#told, AWAY, 1, 0) === 1) {
      this.#log.info({ lost: this.#lost }, 'the collector takes traces again');
      this.#lost = 0;
    }
  }

  /** What still waits at the end of a stop is lost. */
  abandon(): void {
    this.#tellAway('no answer before the stop ended');
  }

  #tellAway(why: string | undefined): void {
    if (Atomics.compareExchange(this.#told, AWAY, 0, 1) === 0)
      this.#log.warn({ why }, 'the collector does not take traces; they are dropped until it does');
  }

  #drop(): void {
    this.#lost += 1;
    if (this.#told[AWAY] === 1 || Atomics.exchange(this.#told, FULL, 1) === 1) return;
    this.#log.warn(
      { spans: this.#spans, links: this.#links },
      'spans end faster than the collector takes them, and some are dropped; OTEL_BSP_MAX_QUEUE_SIZE lets more of them wait',
    );
  }
}

/** Parts of a request that are not too large for a collector. */
const byLinks = (spans: ReadableSpan[]): ReadableSpan[][] => {
  const groups: ReadableSpan[][] = [];
  let links = Number.POSITIVE_INFINITY;
  for (const span of spans) {
    if (links + span.links.length > SENT_LINKS_MAX) {
      groups.push([]);
      links = 0;
    }
    groups.at(-1)!.push(span);
    links += span.links.length;
  }
  return groups;
};
