/**
 * One function's scaling as one worker process sees it: the number of replicas that all workers together are to have, by the
 * pure policy of shared/domain/scaling.ts, and this worker's part of it. Every worker computes the same from the same
 * load, so there is no leader; a function without a scaling of its own has its spec's replicas in each worker process.
 */
import { createHash } from 'node:crypto';
import type { FunctionRecord, ReplicaFacts, ReplicaReport } from '../shared/domain/function.ts';
import {
  mostReplicas,
  newHistory,
  partWithTry,
  plainScaling,
  type Scaling,
  type ScalingDecision,
  type ScalingHistory,
  type ScalingLoad,
  sharesWithin,
  wantedReplicas,
} from '../shared/domain/scaling.ts';
import type { FunctionLoad } from '../shared/store/ports/registry.ts';

/** Where this worker stands among those that can run a version, and how many replicas each of them can have, by rank. */
type Place = { readonly rank: number; readonly most: readonly number[] };

/** What this worker has of the current version. */
export type OwnReplicas = {
  readonly versionId: number;
  readonly facts: readonly ReplicaFacts[];
  /** Wall-clock time of the last batch that one of them got. */
  readonly lastBatchAt: number;
};

const ALONE: Place = { rank: 0, most: [Number.POSITIVE_INFINITY] };

const clamped = (replicas: number, { minReplicas, maxReplicas }: Scaling): number =>
  Math.min(Math.max(replicas, minReplicas), maxReplicas);

/** The same order in all workers, another one for each function: else the first worker would have all single replicas. */
const orderKey = (name: string, workerId: string): string =>
  createHash('sha256').update(`${name} ${workerId}`).digest('hex');

/** What a replica used to load its model says nothing of its load: its CPU counts when it has been ready for this long. */
const WARM_MS = 10_000;

const mean = (values: readonly number[]): number | null =>
  values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;

export class FunctionScaling {
  readonly #workerId: string;
  #record: FunctionRecord;
  #scaling: Scaling;
  /** Of all workers together, or of this one where the function has no scaling of its own. */
  #total: number;
  #history: ScalingHistory | null = null;
  #reports: readonly ReplicaReport[] = [];
  /** By version. */
  readonly #places = new Map<number, Place>();

  constructor(workerId: string, record: FunctionRecord) {
    this.#workerId = workerId;
    this.#record = record;
    this.#scaling = record.scaling ?? plainScaling(record.current.spec.replicas);
    this.#total = this.#scaling.minReplicas;
  }

  /** @returns whether its numbers are others now */
  set(record: FunctionRecord): boolean {
    const scaling = record.scaling ?? plainScaling(record.current.spec.replicas);
    const isChanged = JSON.stringify(scaling) !== JSON.stringify(this.#scaling);
    this.#record = record;
    this.#scaling = scaling;
    this.#total = clamped(this.#total, scaling);
    return isChanged;
  }

  get scaling(): Scaling {
    return this.#scaling;
  }

  /** What a version that starts beside the current one is given: as much as it must have to take its place. */
  get stagedScaling(): Scaling {
    return { ...this.#scaling, minReplicas: Math.max(1, this.#scaling.minReplicas) };
  }

  /** Its number is that of all workers together. */
  get isShared(): boolean {
    return this.#record.scaling !== null;
  }

  /** Its number may change without anybody's update. */
  get isWatched(): boolean {
    return this.isShared || this.#scaling.maxReplicas > this.#scaling.minReplicas;
  }

  get total(): number {
    return this.#total;
  }

  /** Replicas of a version that this worker always has. */
  floor(versionId: number): number {
    return this.#part(this.#scaling.minReplicas, versionId);
  }

  /** Replicas of the current version that this worker is to have now. */
  goal(versionId: number): number {
    return this.#part(this.#total, versionId);
  }

  /** Replicas here of a version that is not the current one and has to be up. */
  goalBeside(versionId: number): number {
    return this.#part(Math.max(1, this.#scaling.minReplicas), versionId);
  }

  /** Whether this worker is the one that tells what all of them decide. */
  isFirst(versionId: number): boolean {
    return !this.isShared || (this.#places.get(versionId) ?? ALONE).rank === 0;
  }

  /** There is something to do: one replica at least. */
  wake(now: number): void {
    this.#total = Math.max(1, this.#total);
    if (this.#history) this.#history = { ...this.#history, busyAt: now };
  }

  /** Takes the live reports of all workers on all versions, this one's among them or not. */
  see(reports: readonly ReplicaReport[]): void {
    this.#reports = reports;
    this.#places.clear();
    for (const { id } of this.#record.versions) this.#places.set(id, this.#placeIn(id));
  }

  /** Takes a look at the load, and decides anew. */
  decide(load: FunctionLoad | undefined, own: OwnReplicas, now: number): ScalingDecision {
    const facts = [...own.facts, ...this.#othersFacts(own.versionId)].filter(
      ({ state }) => state !== 'stopping',
    );
    if (this.#history === null) {
      // A worker that joins others holds what they have, until it has looked for as long as they.
      this.#total = Math.max(this.#total, clamped(facts.length, this.#scaling));
      this.#history = newHistory(now, this.#total);
    }
    const busyAt = Math.max(this.#history.busyAt, own.lastBatchAt);
    const decision = wantedReplicas({
      scaling: this.#scaling,
      batchRows: this.#record.current.spec.batching.sizeRows ?? 1,
      load: this.#loadOf(load, now),
      cpuPercent: this.#cpuPercent(facts, now),
      current: this.#total,
      ready: facts.filter(({ state }) => state === 'ready').length,
      history: { ...this.#history, busyAt },
      now,
    });
    this.#history = decision.history;
    this.#total = decision.replicas;
    return decision;
  }

  #part(total: number, versionId: number): number {
    if (!this.isShared) return total;
    const { rank, most } = this.#places.get(versionId) ?? ALONE;
    return partWithTry(sharesWithin(total, most)[rank]!, most[rank]!, total);
  }

  /** This worker is taken as others take it, by what it told. */
  #placeIn(versionId: number): Place {
    const { name } = this.#record;
    const most = new Map([[this.#workerId, Number.POSITIVE_INFINITY]]);
    for (const report of this.#reports)
      if (report.versionId === versionId && report.replicas !== undefined)
        most.set(report.workerId, mostReplicas(report.replicas));
    const inOrder = [...most]
      .map(([workerId, replicas]) => ({ key: orderKey(name, workerId), workerId, replicas }))
      .sort((a, b) => (a.key < b.key ? -1 : 1));
    return {
      rank: inOrder.findIndex(({ workerId }) => workerId === this.#workerId),
      most: inOrder.map(({ replicas }) => replicas),
    };
  }

  #othersFacts(versionId: number): readonly ReplicaFacts[] {
    if (!this.isShared) return [];
    return this.#reports
      .filter((report) => report.versionId === versionId && report.workerId !== this.#workerId)
      .flatMap(({ replicas = [] }) => replicas);
  }

  #loadOf(load: FunctionLoad | undefined, now: number): ScalingLoad {
    const { paused, current } = this.#record;
    if (!load) return { waitingRows: 0, runningRows: 0, oldestMs: null };
    // Rows of a function that is paused wait for a person: they keep one replica, and ask for no more.
    if (paused)
      return { waitingRows: Math.min(1, load.waitingRows + load.sealedRows), runningRows: 0, oldestMs: null };
    // A function that does not buffer gets each call as a batch of its own, whatever its rows.
    const isByCall = current.spec.batching.sizeRows === null;
    const waiting = isByCall ? load.waitingCalls : load.waitingRows;
    const running = isByCall ? Math.min(load.sealedRows, this.#total) : load.sealedRows;
    const part = this.isShared ? 1 : (this.#places.get(current.id) ?? ALONE).most.length;
    return {
      waitingRows: Math.ceil(waiting / part),
      runningRows: Math.ceil(running / part),
      oldestMs: load.oldestAt === null ? null : Math.max(0, now - load.oldestAt),
    };
  }

  #cpuPercent(facts: readonly ReplicaFacts[], now: number): number | null {
    const known = facts.flatMap(({ state, since, cpuPercent }) =>
      state === 'ready' && now - since >= WARM_MS && cpuPercent !== null ? [cpuPercent] : [],
    );
    const used = mean(known);
    return used === null ? null : used / (this.#record.current.spec.resources.cpu ?? 1);
  }
}
