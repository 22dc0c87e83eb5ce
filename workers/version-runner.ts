/**
 * Runs one function version: keeps its replicas, offers their free slots, leases batches, gives each to a replica
 * and settles it.
 *
 *   offer ─► (ready) ─► lease ─► send to a replica ─► answer ─► settle ─► offer …
 *
 * A replica has a slot for the batch that runs and some for full batches ahead, which lie in its socket. Heartbeats extend every lease that is held until it
 * is settled; a lease that is lost drops the run's answer.
 */

import type { FunctionVersion } from '../shared/domain/function.ts';
import type { IsolationTrail as Trail } from '../shared/domain/retry.ts';
import { IsolationTrail } from '../shared/domain/retry.ts';
import type { Log } from '../shared/runtime/log.ts';
import type { LeasedBatch } from '../shared/store/ports/queue.ts';
import type { Store } from '../shared/store/ports/store.ts';
import type { Backend } from './backend.ts';
import { batchOf, contextOf } from './batch-bytes.ts';
import { BatchRun } from './batch-run.ts';
import { endBatchSpan, startBatchSpan, traceparentOf } from './batch-trace.ts';
import type { Handler, HandlerAnswer, HandlerBatch, HandlerContext } from './handler.ts';
import type { HandlerLog } from './handler-log.ts';
import type { MachineRoom } from './machine-room.ts';
import { PrefetchDepth } from './prefetch-depth.ts';
import { Replica } from './replica.ts';
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
  readonly callIdText: (callId: number) => string;
  readonly onChange: () => void;
};

export class VersionRunner {
  readonly #options: RunnerOptions;
  readonly #metrics: RunnerMetrics;
  readonly #trail: Trail = new IsolationTrail();
  readonly #runs = new Set<BatchRun>();
  readonly #depth = new PrefetchDepth();
  #unsettledBytes = 0;
  replicas: Replica[] = [];
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
  }

  get version(): FunctionVersion {
    return this.#options.version;
  }

  get busy(): boolean {
    return this.#runs.size > 0 || this.#leasing;
  }

  get readyCount(): number {
    return this.replicas.filter(({ state }) => state === 'ready').length;
  }

  /** Starts replicas up to `count`; scaling down is `rest`. */
  scaleTo(count: number): void {
    if (this.#stopping) return;
    while (this.replicas.length < count) this.replicas.push(this.#start(this.replicas.length));
    this.#changed();
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
    await this.#handBackWaiting();
    await this.#allSettled();
    const resting = this.replicas;
    this.replicas = [];
    this.#resting = false;
    this.#maybeReady = true;
    this.#changed();
    await Promise.all(resting.map((replica) => replica.stop(LEAVE_MS)));
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
      await this.#handBackWaiting();
    }
    const timer = setTimeout(() => this.#settled?.resolve(), graceMs);
    await this.#allSettled();
    clearTimeout(timer);
    const running = [...this.#runs].filter((run) => !run.dropped);
    for (const run of running) run.drop();
    await Promise.all(running.map((run) => this.#handBack(run.leased)));
    const leaveMs = running.length > 0 ? 0 : Math.min(LEAVE_MS, Math.max(0, end - performance.now()));
    await Promise.all(this.replicas.map((replica) => replica.stop(leaveMs)));
  }

  /** Takes nothing more, and gives back what lies before a replica and has not begun. */
  async #handBackWaiting(): Promise<void> {
    await this.#offer().catch(() => undefined);
    const waiting = [...this.#runs].filter((run) => run.startedAt === null && !run.dropped);
    for (const run of waiting) run.drop();
    await Promise.all(waiting.map((run) => this.#handBack(run.leased)));
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
    const run = new BatchRun(leased);
    this.#runs.add(run);
    this.#execute(run, best)
      .catch((error: unknown) =>
        this.#options.log.error({ err: error, batch: leased.batchId }, 'batch dropped'),
      )
      .finally(() => this.#forget(run));
  }

  #forget(run: BatchRun): void {
    this.#runs.delete(run);
    if (![...this.#runs].some((other) => !other.dropped)) {
      this.#settled?.resolve();
      this.#settled = null;
    }
    this.#pump();
  }

  async #execute(run: BatchRun, replica: Replica): Promise<void> {
    const { spec } = this.#options.version;
    const answer = await this.#handle(run, replica);
    run.answered = true;
    if (run.dropped) {
      this.#pump();
      return;
    }
    const verdict = verdictOf(run, answer, spec);
    if (verdict === null) {
      this.#pump();
      await this.#handBack(run.leased);
      return;
    }
    const settling = this.#settle(run, verdict);
    this.#pump();
    await settling;
  }

  async #handle(run: BatchRun, replica: Replica): Promise<HandlerAnswer> {
    const { version, callIdText } = this.#options;
    const { spec } = version;
    const { handler } = replica;
    if (handler === null) return { end: 'unstarted' };
    const span = startBatchSpan(run.leased, spec.name, run.rows);
    const context = contextOf(run.leased, {
      version,
      traceparent: traceparentOf(span, run.leased),
      wantsCalls: handler.wantsCalls,
      callIdText,
    });
    const batch = batchOf(run.leased, run.rows, spec);
    const answer = 'end' in batch ? batch : await this.#run(run, replica, handler, batch, context);
    const end = run.timedOut ? 'timeout' : answer.end;
    endBatchSpan(span, end, 'error' in answer ? answer.error.message : null);
    this.#metrics.ran(end, run.handlerMs);
    if (end === 'ok') this.#depth.observe(run.handlerMs);
    return answer;
  }

  async #run(
    run: BatchRun,
    replica: Replica,
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
        replica.killForTimeout();
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
    const answer = await untilAnswered(
      run,
      () => store.queue.settle({ ...settlement, now: Date.now() }),
      (error) => log.error({ err: error, batch: run.leased.batchId }, 'settle failed; trying again'),
    ).finally(() => {
      this.#unsettledBytes -= outputBytes;
    });
    if (answer?.accepted) this.#metrics.settled(settlement.outcomes);
    else if (answer?.stale) this.#metrics.conflict();
  }

  async #handBack(leased: LeasedBatch): Promise<void> {
    const { store, log } = this.#options;
    const { batchId, token } = leased;
    await store.queue
      .release({ batchId, token, now: Date.now() })
      .catch((error: unknown) => log.warn({ err: error, batch: batchId }, 'a batch was not handed back'));
  }
}
