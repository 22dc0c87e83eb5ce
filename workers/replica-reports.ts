/** Tells the store what a worker's replicas are doing, for as long as a lease: what a dead worker said is over then. */
import type { ReplicaFacts } from '../shared/domain/function.ts';
import type { Log } from '../shared/runtime/log.ts';
import { metrics } from '../shared/runtime/metrics.ts';
import type { Registry } from '../shared/store/ports/registry.ts';
import { type Entry, reportOf } from './version-entry.ts';

/** Rows, CPU and memory change all the time; a person who watches reads them as often as this. */
const FIGURES_MS = 3000;

export type ReportsOptions = {
  readonly registry: Registry;
  readonly workerId: string;
  readonly leaseMs: number;
  readonly log: Log;
};

type Told = { readonly at: number; readonly states: string; readonly figures: string };

const statesOf = ({ runningRows, cpuPercent, memoryBytes, ...states }: ReplicaFacts) => states;

export class ReplicaReports {
  readonly #options: ReportsOptions;
  readonly #told = new WeakMap<Entry, Told>();
  #changed = new Set<Entry>();

  constructor(options: ReportsOptions) {
    this.#options = options;
  }

  /** Reports once for all changes of one turn, and only when states changed: every batch changes figures. */
  changed(entry: Entry): void {
    if (this.#changed.size === 0) queueMicrotask(() => this.#flush());
    this.#changed.add(entry);
  }

  /** Tells figures that changed, not too often. */
  figures(entries: Iterable<Entry>): void {
    const now = Date.now();
    for (const entry of entries) {
      const told = this.#told.get(entry);
      if (told && now - told.at >= FIGURES_MS && told.figures !== this.#read(entry).figures)
        void this.tell(entry);
    }
  }

  async tell(entry: Entry, leaseMs = this.#options.leaseMs): Promise<void> {
    const { registry, workerId, log } = this.#options;
    const now = Date.now();
    const { report, ...texts } = this.#read(entry);
    this.#told.set(entry, { at: now, ...texts });
    await registry
      .report({ now, report: { workerId, ...report, until: now + leaseMs } })
      .catch((error: unknown) => log.warn({ err: error }, 'replicas were not reported'));
  }

  #flush(): void {
    const entries = [...this.#changed];
    this.#changed.clear();
    for (const entry of entries) {
      const { report, states } = this.#read(entry);
      if (states === this.#told.get(entry)?.states) continue;
      void this.tell(entry);
      if (entry.role !== 'current') continue;
      const { name } = entry.runner.version.spec;
      for (const state of ['ready', 'starting', 'failed'] as const)
        metrics.replicas.labels(name, state).set(report[state]);
    }
  }

  #read(entry: Entry) {
    const report = reportOf(entry);
    const { replicas, ...counts } = report;
    const states = JSON.stringify([entry.role, counts, replicas?.map(statesOf)]);
    return { report, states, figures: JSON.stringify(replicas ?? []) };
  }
}
