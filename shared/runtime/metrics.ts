/**
 * The metrics of one thread or process. Ingress threads send `snapshot()` to the main thread, which answers
 * /metrics with `render` over all snapshots, so that a scrape sees one process.
 */
import { AggregatorRegistry, Counter, Gauge, Histogram, Registry } from 'prom-client';

export const registry = new Registry();

const MS = [0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 60_000];
const FILL = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 1];

export const metrics = {
  requests: new Counter({
    name: 'sluice_http_requests_total',
    help: 'HTTP answers by route and status.',
    labelNames: ['route', 'status'],
    registers: [registry],
  }),
  callsAdmitted: new Counter({
    name: 'sluice_calls_admitted_total',
    help: 'Calls accepted.',
    labelNames: ['function'],
    registers: [registry],
  }),
  rowsAdmitted: new Counter({
    name: 'sluice_rows_admitted_total',
    help: 'Rows accepted.',
    labelNames: ['function'],
    registers: [registry],
  }),
  refusals: new Counter({
    name: 'sluice_refusals_total',
    help: 'Submissions refused, by error code.',
    labelNames: ['code'],
    registers: [registry],
  }),
  batchesSealed: new Counter({
    name: 'sluice_batches_sealed_total',
    help: 'Batches sealed, by reason.',
    labelNames: ['function', 'reason'],
    registers: [registry],
  }),
  batchFill: new Histogram({
    name: 'sluice_batch_fill_ratio',
    help: 'Rows of a sealed batch over max_batching_size.',
    labelNames: ['function'],
    buckets: FILL,
    registers: [registry],
  }),
  batchWaitMs: new Histogram({
    name: 'sluice_batch_wait_ms',
    help: "From the oldest row's arrival to the seal, in milliseconds.",
    labelNames: ['function'],
    buckets: MS,
    registers: [registry],
  }),
  handlerMs: new Histogram({
    name: 'sluice_handler_ms',
    help: 'Handler time of a batch, in milliseconds.',
    labelNames: ['function'],
    buckets: MS,
    registers: [registry],
  }),
  attempts: new Counter({
    name: 'sluice_attempts_total',
    help: 'Handler runs, by end (ok, error, timeout, crash).',
    labelNames: ['function', 'end'],
    registers: [registry],
  }),
  rowsSettled: new Counter({
    name: 'sluice_rows_settled_total',
    help: 'Rows settled by the workers of this process, by outcome; sluice_rows_ended has those that no worker settles.',
    labelNames: ['function', 'outcome'],
    registers: [registry],
  }),
  rowsEnded: new Gauge({
    name: 'sluice_rows_ended',
    help: 'Rows that ended, by outcome, of all processes together: since the start of the server, on Redis since the first row.',
    labelNames: ['function', 'outcome'],
    registers: [registry],
  }),
  settleConflicts: new Counter({
    name: 'sluice_settle_conflicts_total',
    help: 'Settles refused because the lease token was stale.',
    labelNames: ['function'],
    registers: [registry],
  }),
  inferenceRows: new Counter({
    name: 'sluice_inference_rows_total',
    help: 'Rows sampled for the inference store, by status: stored, or dropped since they could not be written in time.',
    labelNames: ['function', 'status'],
    registers: [registry],
  }),
  handlerRestarts: new Counter({
    name: 'sluice_handler_restarts_total',
    help: 'Replicas started again.',
    labelNames: ['function', 'cause'],
    registers: [registry],
  }),
  queueRows: new Gauge({
    name: 'sluice_queue_rows',
    help: 'Rows that wait or are sealed and not settled.',
    labelNames: ['function', 'state'],
    registers: [registry],
  }),
  queueAgeMs: new Gauge({
    name: 'sluice_queue_oldest_ms',
    help: 'Age of the oldest waiting row, in milliseconds.',
    labelNames: ['function'],
    registers: [registry],
  }),
  replicas: new Gauge({
    name: 'sluice_replicas',
    help: 'Replicas of the current version by state.',
    labelNames: ['function', 'state'],
    registers: [registry],
  }),
  replicasWanted: new Gauge({
    name: 'sluice_replicas_wanted',
    help: 'Replicas that a process of workers is to have of a function that is scaled; the sum over processes is the total.',
    labelNames: ['function'],
    registers: [registry],
  }),
  scalingDecisions: new Counter({
    name: 'sluice_scaling_decisions_total',
    help: 'Changes of the number of replicas, by direction (up, down) and cause (rows, wait, cpu, window, idle, min, max).',
    labelNames: ['function', 'direction', 'cause'],
    registers: [registry],
  }),
  driftPsi: new Gauge({
    name: 'sluice_drift_psi',
    help: 'Population stability index of a column between the reference and the window of a scaling group.',
    labelNames: ['function', 'column'],
    registers: [registry],
  }),
  driftKs: new Gauge({
    name: 'sluice_drift_ks',
    help: 'Two-sample Kolmogorov-Smirnov statistic of a column of numbers or times, likewise.',
    labelNames: ['function', 'column'],
    registers: [registry],
  }),
  driftRows: new Gauge({
    name: 'sluice_drift_rows',
    help: 'Rows that the last drift figures were computed from, by side (reference, window).',
    labelNames: ['function', 'window'],
    registers: [registry],
  }),
  storeCounters: new Gauge({
    name: 'sluice_store',
    help: "The store's own counters, by name.",
    labelNames: ['counter'],
    registers: [registry],
  }),
  diskBytes: new Gauge({
    name: 'sluice_disk_bytes',
    help: 'Bytes of the data directory, by kind.',
    labelNames: ['kind'],
    registers: [registry],
  }),
};

export type MetricsSnapshot = Awaited<ReturnType<Registry['getMetricsAsJSON']>>;

export const snapshot = (): Promise<MetricsSnapshot> => registry.getMetricsAsJSON();

/** The Prometheus text of several snapshots, summed by metric and labels. */
export const render = (snapshots: readonly MetricsSnapshot[]): Promise<string> =>
  AggregatorRegistry.aggregate([...snapshots]).metrics();

export const metricsContentType = registry.contentType;
