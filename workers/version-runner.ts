/**
 * Runs one function version: keeps its replicas, offers their free slots, leases batches, gives each to a replica
 * and settles it.
 *
 *   offer ─► (ready) ─► lease ─► send to a replica ─► answer ─► settle ─► offer …
 *
 * A replica has a slot for the batch that runs and some for full batches ahead, which lie in its socket. Heartbeats extend every lease that is held until it
 * is settled; a lease that is lost drops the run's answer.
 */

import type { FunctionVersion, ReplicaFacts } from '../shared/domain/function.ts';
import type { IsolationTrail as Trail } from '../shared/domain/retry.ts';
import { IsolationTrail } from '../shared/domain/retry.ts';
import type { Log } from '../shared/runtime/log.ts';
import { Slab } from '../shared/runtime/slab.ts';
import type { LeasedBatch, Settlement } from '../shared/store/ports/queue.ts';
import type { Store } from '../shared/store/ports/store.ts';
import type { Backend } from './backend.ts';
import { batchBytes, batchOf, contextOf } from './batch-bytes.ts';
import { BatchRun } from './batch-run.ts';
import { endBatchSpan, startBatchSpan, traceparentOf } from './batch-trace.ts';
import type { Handler, HandlerAnswer, HandlerBatch, HandlerContext } from './handler.ts';
import type { HandlerLog } from './handler-log.ts';
import type { InferenceLog } from './inference-log/inference-log.ts';
import type { VersionSampler } from './inference-log/version-sampler.ts';
import type { MachineRoom } from './machine-room.ts';
import { PrefetchDepth } from './prefetch-depth.ts';
import { byUse, Replica } from './replica.ts';
import { type RunnerMetrics, runnerMetrics } from './runner-metrics.ts';
import { settlementOf, untilAnswered, type Verdict, verdictOf } from './settling.ts';

/** Answered batches that wait for their commit, and their bytes; above either nothing is leased, since they are held in memory. */
const UNSETTLED_MAX = 64;
const UNSETTLED_BYTES_MAX = 64 * 2 ** 20;
/** Node runs a longer timer at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;
const NOTHING = '0 0';
/** A process with nothing to do leaves in this time; shutdown hooks of handlers are short. */
export const LEAVE_MS = 5000;

export type RunnerOptions = {
  readonly store: Store;
  readonly version: FunctionVersion;
  readonly workerId: string;
  readonly leaseMs: number;
  readonly claimsMax: number;
  readonly log: Log;
  readonly backend: Backend;
  /** What replicas of this machine share; null: they run elsewhere. */
  readonly room: MachineRoom | null;
  readonly handlerLog: HandlerLog;
  readonly inferenceLog: InferenceLog;
  readonly callIdText: (callId: number) => string;
  readonly onChange: () => void;
};

export class VersionRunner {
  readonly #options: RunnerOptions;
  readonly #metrics: RunnerMetrics;
  /** null: no row of the version is sampled. */
  readonly #sampler: VersionSampler | null;
  readonly #trail: Trail = new IsolationTrail();
  readonly #runs = new Slab<BatchRun>();
  readonly #depth = new PrefetchDepth();
  #unsettledBytes = 0;
  #lastBatchAt = 0;
  /** Those that live; a retired one is among them until what it runs is settled. */
  replicas: Replica[] = [];
  /** Retired ones that are on their way out. */
  readonly #leaving = new Map<Replica, Promise<void>>();
  #leasing = false;
  #offering = false;
  /** Something may be ready that was not leased yet. */
  #maybeReady = true;
  /** What the store was told last; '' when that may be over. */
  #offered = NOTHING;
  #stopping = false;
  /** The replicas finish what runs and stop; nothing new is taken. */
  #resting = false;
  /** Somebody waits until nothing runs any more. */
  #settled: PromiseWithResolvers<void> | null = null;

  constructor(options: RunnerOptions) {
    this.#options = options;
    this.#metrics = runnerMetrics(options.version.spec.name);
    this.#sampler = options.inferenceLog.of(options.version);
  }

  get version(): FunctionVersion {
    return this.#options.version;
  }

  get busy(): boolean {
    return this.#runs.size > 0 || this.#leasing;
  }

  /** Wall-clock time of the last batch that a replica got; 0 before the first. */
  get lastBatchAt(): number {
    return this.#lastBatchAt;
  }

  get readyCount(): number {
    return this.replicas.filter(({ state }) => state === 'ready').length;
  }

  /**
   * Starts replicas or lets some go until `count` take batches. One that runs a batch finishes it before it goes, and is
   * kept after all when more are wanted meanwhile; what lay before it and has not begun is handed back at no cost.
   */
  scaleTo(count: number): void {
    if (this.#stopping || this.#resting) return;
    const serving = this.#serving;
    const [before, retired] = [serving.length, this.replicas.filter(({ state }) => state === 'stopping')];
    while (serving.length < count) {
      const replica = retired.pop();
      replica?.revive();
      serving.push(replica ?? this.#start(this.#freeIndex([...retired, ...serving])));
    }
    this.replicas = [...retired, ...serving];
    for (const replica of byUse(serving, (one) => this.#isRunning(one)).slice(count)) this.#retire(replica);
    if (before !== count) this.#changed();
  }

  /** Replicas that are not about to go. */
  get #serving(): Replica[] {
    return this.replicas.filter(({ state }) => state !== 'stopping');
  }

  get size(): number {
    return this.#serving.length;
  }

  facts(): ReplicaFacts[] {
    const rows = new Map<Replica, number>();
    for (const { replica, rows: runRows, startedAt, answered } of this.#runs)
      if (startedAt !== null && !answered) rows.set(replica, runRows);
    return [...this.replicas, ...this.#leaving.keys()]
      .map((replica) => replica.facts(rows.get(replica) ?? 0))
      .toSorted((left, right) => left.index - right.index);
  }

  /** Takes what its replicas used since the last look. */
  async measure(): Promise<void> {
    await Promise.all(this.replicas.map((replica) => replica.measure()));
  }

  #isRunning(replica: Replica): boolean {
    for (const run of this.#runs) if (run.replica === replica && !run.dropped && !run.answered) return true;
    return false;
  }

  /** The lowest number that no living replica has. */
  #freeIndex(living: readonly Replica[]): number {
    const taken = new Set([...living, ...this.#leaving.keys()].map(({ index }) => index));
    let index = 0;
    while (taken.has(index)) index += 1;
    return index;
  }

  #retire(replica: Replica): void {
    replica.retire();
    replica.handler?.withdraw();
    this.#part(replica);
  }

  /** Lets a retired replica go when nothing of it runs. */
  #part(replica: Replica): void {
    if (!this.replicas.includes(replica) || this.#isRunning(replica)) return;
    this.replicas = this.replicas.filter((other) => other !== replica);
    const left = replica.stop(LEAVE_MS).finally(() => {
      this.#leaving.delete(replica);
      this.#options.onChange();
    });
    this.#leaving.set(replica, left);
  }

  #start(index: number): Replica {
    const { backend, room, version, log, handlerLog } = this.#options;
    const functionName = version.spec.name;
    return new Replica({
      index,
      log,
      backend,
      room,
      version,
      onLine: (stream, text) =>
        handlerLog.add({ at: Date.now(), functionName, replica: index, stream, text }),
      onChange: () => this.#changed(),
      onRestart: (cause) => this.#metrics.restarted(cause),
    });
  }

  /** Finishes what runs, hands back what has not begun, and stops the replicas; `scaleTo` starts them again. */
  async rest(): Promise<void> {
    this.#resting = true;
    await this.#withdraw();
    await this.#allSettled();
    const resting = this.replicas;
    this.replicas = [];
    this.#resting = false;
    this.#maybeReady = true;
    this.#changed();
    await Promise.all([...resting.map((replica) => replica.stop(LEAVE_MS)), ...this.#leaving.values()]);
  }

  /** A batch is ready in the store. */
  wake(): void {
    this.#maybeReady = true;
    this.#pump();
  }

  /** Calls ended early: a batch that holds nothing else is dropped. */
  callsEnded(calls: ReadonlySet<number>): void {
    for (const run of this.#runs) {
      if (run.dropped || !run.ended(calls)) continue;
      run.drop();
      void this.#handBack(run.leased);
    }
  }

  /** Extends what is held and renews the offer; due every third of a lease. */
  async heartbeat(): Promise<void> {
    const { store, leaseMs, log } = this.#options;
    const held = [...this.#runs].filter((run) => !run.dropped);
    if (this.replicas.length > 0) {
      this.#offered = '';
      this.wake();
    }
    if (held.length === 0) return;
    const leases = held.map((run) => run.lease);
    const { lost } = await store.queue.extend({ now: Date.now(), leaseMs, leases });
    for (const batchId of lost) {
      const run = held.find(({ leased }) => leased.batchId === batchId);
      // What was answered or dropped meanwhile has given its lease back itself; a settle is told when it was too late.
      if (run === undefined || run.answered || run.dropped) continue;
      log.warn({ batch: batchId }, 'lease lost; its answer will be dropped');
      run.drop();
    }
  }

  /**
   * Finishes what runs within the grace, hands back what has not begun, and stops the replicas, within `endMs` in all.
   * Safe to call twice.
   */
  async stop(graceMs: number, endMs = graceMs + LEAVE_MS): Promise<void> {
    const end = performance.now() + endMs;
    if (!this.#stopping) {
      this.#stopping = true;
      await this.#withdraw();
    }
    const timer = setTimeout(() => this.#settled?.resolve(), graceMs);
    await this.#allSettled();
    clearTimeout(timer);
    const running = [...this.#runs].filter((run) => !run.dropped);
    for (const run of running) run.drop();
    await Promise.all(running.map((run) => this.#handBack(run.leased)));
    const leaveMs = running.length > 0 ? 0 : Math.min(LEAVE_MS, Math.max(0, end - performance.now()));
    await Promise.all([...this.replicas, ...this.#leaving.keys()].map((replica) => replica.stop(leaveMs)));
    this.#sampler?.flush();
  }

  /**
   * Takes nothing more, and asks replicas for what lies before them. Only what a handler has not begun is handed back: it
   * may be batches ahead of the answers that were read here, and what it has begun would run twice.
   */
  async #withdraw(): Promise<void> {
    await this.#offer().catch(() => undefined);
    for (const { handler } of this.replicas) handler?.withdraw();
  }

  async #allSettled(): Promise<void> {
    if (![...this.#runs].some((run) => !run.dropped)) return;
    this.#settled ??= Promise.withResolvers();
    await this.#settled.promise;
  }

  #changed(): void {
    this.#options.onChange();
    this.#pump();
  }

  #free(): { idle: number; prefetch: number } {
    if (this.#stopping || this.#resting) return { idle: 0, prefetch: 0 };
    const ready = this.replicas.filter(({ state }) => state === 'ready');
    const inHandlers = ready.reduce((sum, { load }) => sum + load, 0);
    if (this.#runs.size - inHandlers >= UNSETTLED_MAX || this.#unsettledBytes >= UNSETTLED_BYTES_MAX) {
      return { idle: 0, prefetch: 0 };
    }
    const slots = 1 + this.#depth.batches;
    const idle = ready.filter(({ load }) => load === 0).length;
    const free = ready.reduce((sum, { load }) => sum + Math.max(0, slots - load), 0);
    return { idle, prefetch: free - idle };
  }

  /** Leases while something may be ready, then says what is free. One of each is under way at a time, so that the store sees them in order. */
  #pump(): void {
    if (this.#leasing) return;
    const { idle, prefetch } = this.#free();
    if (this.#maybeReady && idle + prefetch > 0) void this.#lease(idle + prefetch);
    else if (!this.#offering) void this.#offer().catch((error: unknown) => this.#failedVerb('offer', error));
  }

  async #offer(): Promise<void> {
    const { store, version, workerId, leaseMs } = this.#options;
    const free = this.#free();
    const key = `${free.idle} ${free.prefetch}`;
    if (key === this.#offered) return;
    this.#offering = true;
    this.#offered = key;
    const now = Date.now();
    try {
      await store.queue.offer({ now, workerId, versionId: version.id, ...free, until: now + leaseMs });
    } catch (error) {
      this.#offered = '';
      throw error;
    } finally {
      this.#offering = false;
    }
    if (!this.#stopping) this.#pump();
  }

  async #lease(max: number): Promise<void> {
    const { store, version, workerId, leaseMs } = this.#options;
    this.#leasing = true;
    this.#maybeReady = false;
    let leased: readonly LeasedBatch[] = [];
    try {
      leased = await store.queue.lease({ now: Date.now(), workerId, versionId: version.id, leaseMs, max });
    } catch (error) {
      // The next heartbeat asks again: a store that refuses is not asked in a loop.
      this.#failedVerb('lease', error);
    }
    this.#leasing = false;
    if (leased.length > 0) this.#offered = '';
    if (leased.length === max) this.#maybeReady = true;
    for (const batch of leased) this.#give(batch);
    this.#pump();
  }

  #failedVerb(verb: string, error: unknown): void {
    if (!this.#stopping) this.#options.log.error({ err: error, verb }, 'the store refused a verb');
  }

  #give(leased: LeasedBatch): void {
    let best: Replica | null = null;
    for (const replica of this.replicas) {
      if (replica.state === 'ready' && replica.load < (best?.load ?? 1 + this.#depth.batches)) best = replica;
    }
    if (best === null || this.#stopping || this.#resting) {
      void this.#handBack(leased);
      return;
    }
    const run = new BatchRun(leased, best);
    const key = this.#runs.insert(run);
    this.#lastBatchAt = Date.now();
    this.#execute(run)
      .catch((error: unknown) =>
        this.#options.log.error({ err: error, batch: leased.batchId }, 'batch dropped'),
      )
      .finally(() => this.#forget(run, key));
  }

  #forget(run: BatchRun, key: number): void {
    this.#runs.remove(key);
    if (![...this.#runs].some((other) => !other.dropped)) {
      this.#settled?.resolve();
      this.#settled = null;
    }
    if (run.replica.state === 'stopping' && !this.#stopping && !this.#resting) this.#part(run.replica);
    this.#pump();
  }

  async #execute(run: BatchRun): Promise<void> {
    const { spec } = this.#options.version;
    const answer = await this.#handle(run);
    run.answered = true;
    if (run.dropped) {
      endBatchSpan(run.span, null);
      this.#pump();
      return;
    }
    const verdict = verdictOf(run, answer, spec);
    endBatchSpan(run.span, verdict);
    if (verdict === null) {
      this.#pump();
      await this.#handBack(run.leased);
      return;
    }
    const settling = this.#settle(run, verdict);
    this.#pump();
    await settling;
  }

  async #handle(run: BatchRun): Promise<HandlerAnswer> {
    const { version, callIdText } = this.#options;
    const { spec } = version;
    const { handler } = run.replica;
    if (handler === null) return { end: 'unstarted' };
    run.span = startBatchSpan(run.leased, spec.name, run.rows);
    const context = contextOf(run.leased, {
      version,
      traceparent: traceparentOf(run.span, run.leased),
      wantsCalls: handler.wantsCalls,
      callIdText,
    });
    const batch = batchOf(run.leased, run.rows, spec);
    if ('parts' in batch) {
      this.#depth.take(batchBytes(batch));
      if (this.#sampler !== null) run.parts = batch.parts.map(({ bytes }) => bytes);
    }
    const answer = 'end' in batch ? batch : await this.#run(run, handler, batch, context);
    const end = run.timedOut ? 'timeout' : answer.end;
    this.#metrics.ran(end, run.handlerMs);
    if (end === 'ok') this.#depth.observe(run.handlerMs);
    return answer;
  }

  async #run(
    run: BatchRun,
    handler: Handler,
    batch: HandlerBatch,
    context: HandlerContext,
  ): Promise<HandlerAnswer> {
    const timeoutMs = Math.min(this.version.spec.callTimeoutMs, TIMER_MS_MAX);
    let timer: NodeJS.Timeout | undefined;
    const begun = (): void => {
      run.begin();
      timer = setTimeout(() => {
        run.timedOut = true;
        run.replica.killForTimeout();
      }, timeoutMs);
    };
    const answer = await handler.run(batch, context, run.abort.signal, begun);
    clearTimeout(timer);
    return answer;
  }

  async #settle(run: BatchRun, verdict: Verdict): Promise<void> {
    const { store, version, claimsMax, log } = this.#options;
    const settlement = settlementOf(run, verdict, { spec: version.spec, claimsMax }, this.#trail);
    const outputBytes = settlement.output?.byteLength ?? 0;
    this.#unsettledBytes += outputBytes;
    let at = settlement.now;
    const answer = await untilAnswered(
      run,
      () => {
        at = Date.now();
        return store.queue.settle({ ...settlement, now: at });
      },
      (error) => log.error({ err: error, batch: run.leased.batchId }, 'settle failed; trying again'),
    ).finally(() => {
      this.#unsettledBytes -= outputBytes;
    });
    if (answer?.accepted) {
      // The store drops late answers for calls that were cancelled or expired: nobody was given them.
      const outcomes = settlement.outcomes.filter(({ callId }) => !run.hasEnded(callId));
      this.#metrics.settled(outcomes);
      this.#sample(run, { ...settlement, outcomes }, at);
    } else if (answer?.stale) this.#metrics.conflict();
  }

  #sample(run: BatchRun, { outcomes, output, handlerMs }: Settlement, at: number): void {
    const { leased, rows, parts } = run;
    this.#sampler?.take({ leased, rows, parts, settlement: { outcomes, output, handlerMs }, at });
  }

  async #handBack(leased: LeasedBatch): Promise<void> {
    const { store, log } = this.#options;
    const { batchId, token } = leased;
    await store.queue
      .release({ batchId, token, now: Date.now() })
      .catch((error: unknown) => log.warn({ err: error, batch: batchId }, 'a batch was not handed back'));
  }
}
