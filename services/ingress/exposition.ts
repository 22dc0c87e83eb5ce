/** /metrics of the whole process: the threads' snapshots, this thread's own, and gauges read from the store at the scrape. */
import type { DriftRecord } from '../../shared/domain/inference.ts';
import { functionNameOf } from '../../shared/domain/model.ts';
import { type MetricsSnapshot, metrics, render, snapshot } from '../../shared/runtime/metrics.ts';
import type { Documents } from '../../shared/store/ports/documents.ts';
import type { Store } from '../../shared/store/ports/store.ts';
import { driftRecords } from '../inferences/drift-records.ts';

const fillFunctions = async ({ registry, documents }: Store, now: number): Promise<void> => {
  const { queueRows, queueAgeMs, replicas, rowsEnded } = metrics;
  for (const gauge of [queueRows, queueAgeMs, replicas, rowsEnded]) gauge.reset();
  // The loads name the functions: their records, with all versions, would be read for nothing.
  const loads = await registry.load();
  await fillDrift(documents, new Set(loads.map(({ functionName }) => functionName)));
  for (const { functionName, waitingRows, sealedRows, endedRows, oldestAt } of loads) {
    queueRows.set({ function: functionName, state: 'waiting' }, waitingRows);
    queueRows.set({ function: functionName, state: 'sealed' }, sealedRows);
    for (const [outcome, rows] of Object.entries(endedRows))
      rowsEnded.set({ function: functionName, outcome }, rows);
    queueAgeMs.set({ function: functionName }, oldestAt === null ? 0 : Math.max(0, now - oldestAt));
    const reports = await registry.reports({ now, name: functionName });
    for (const state of ['ready', 'starting', 'failed'] as const) {
      const count = reports.reduce((sum, report) => sum + report[state], 0);
      replicas.set({ function: functionName, state }, count);
    }
  }
};

/** Of functions that are there: a record goes up to a minute after its group. */
const fillDrift = async (documents: Documents, functions: ReadonlySet<string>): Promise<void> => {
  const found: DriftRecord[] = [];
  for await (const record of driftRecords(documents))
    if (functions.has(functionNameOf(record.group))) found.push(record);
  for (const gauge of [metrics.driftPsi, metrics.driftKs, metrics.driftRows]) gauge.reset();
  for (const { group, figures } of found) {
    if (figures === null) continue;
    const name = functionNameOf(group);
    metrics.driftRows.set({ function: name, window: 'reference' }, figures.referenceRows);
    metrics.driftRows.set({ function: name, window: 'window' }, figures.windowRows);
    for (const { column, psi, ks } of figures.columns) {
      if (psi !== null) metrics.driftPsi.set({ function: name, column }, psi);
      if (ks !== null) metrics.driftKs.set({ function: name, column }, ks);
    }
  }
};

const fillStore = async (store: Store): Promise<void> => {
  const usage = await store.retention.usage();
  metrics.diskBytes.set({ kind: 'database' }, usage.databaseBytes);
  metrics.diskBytes.set({ kind: 'segments' }, usage.segmentBytes);
  metrics.diskBytes.set({ kind: 'limit' }, usage.limitBytes);
  for (const [counter, value] of Object.entries(await store.counters())) {
    metrics.storeCounters.set({ counter }, value);
  }
};

/** Of a process without HTTP threads: what the store holds is told by those that have some, once for all. */
export const ownExposition = async (): Promise<string> => render([await snapshot()]);

export const exposition = async (store: Store, threads: readonly MetricsSnapshot[]): Promise<string> => {
  const now = Date.now();
  await Promise.all([fillFunctions(store, now), fillStore(store)]);
  return render([...threads, await snapshot()]);
};
