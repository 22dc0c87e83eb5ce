/**
 * One replica of a function version: what its back end started, started again whenever it ends.
 *
 *   starting ─► ready ─► starting …        (it died: at once, slower when it keeps dying young)
 *                 └────► starting ─► ready (it lives and says that it takes no batches for now)
 *      └─► failed ─► starting …            (it cannot start: slower and slower, the reason is kept)
 *   any ─► stopping                        (it finishes what runs, unless it is wanted again before that)
 */

import { excerpt } from '../shared/domain/excerpt.ts';
import type { FunctionVersion, ReplicaFacts } from '../shared/domain/function.ts';
import type { Log } from '../shared/runtime/log.ts';
import type { Backend, HandlerInstance } from './backend.ts';
import type { MachineRoom } from './machine-room.ts';
import { ReplicaUsage } from './replica-usage.ts';

/** Waits between starts: a minute at most after a failed start, since what is missing may come back. */
const FIRST_WAIT_MS = 250;
const WAIT_MS_MAX = 60_000;
/** A crash is mostly a row's doing, and the rows that are isolated from it wait for the process. */
const CRASH_WAIT_MS_MAX = 1000;
/** A process that lived this long was healthy: its end starts the waits afresh. */
const HEALTHY_MS = 5000;
/** A reason is read by a person in a status answer. */
const REASON_CHARACTERS_MAX = 4000;

export type ReplicaState = ReplicaFacts['state'];
type Phase = Exclude<ReplicaState, 'stopping'>;

export type ReplicaOptions = {
  readonly index: number;
  readonly log: Log;
  readonly backend: Backend;
  /** What replicas of this machine share; null: it runs elsewhere. */
  readonly room: MachineRoom | null;
  readonly version: FunctionVersion;
  readonly onLine: (stream: 'stdout' | 'stderr', text: string) => void;
  readonly onChange: () => void;
  readonly onRestart: (cause: 'start_failed' | 'crash' | 'timeout') => void;
};

const shortened = (reason: string): string => excerpt(reason, REASON_CHARACTERS_MAX);

export class Replica {
  /** Why it is not ready, when it failed. */
  reason: string | null = null;
  handler: HandlerInstance | null = null;

  readonly #options: ReplicaOptions;
  readonly #stopped = Promise.withResolvers<void>();
  readonly #preparing = new AbortController();
  readonly #lived: Promise<void>;
  readonly #usage = new ReplicaUsage();
  #devices: readonly number[] | null = null;
  #phase: Phase = 'starting';
  #since = Date.now();
  /** How its last start or run ended. */
  #lastEnd: string | null = null;
  #restarts = 0;
  #failures = 0;
  #isRetired = false;
  #isStopped = false;
  #timedOut = false;
  /** Its handler has been ready; it may be out of service since. */
  #wasReady = false;

  constructor(options: ReplicaOptions) {
    this.#options = options;
    this.#lived = this.#live();
  }

  get index(): number {
    return this.#options.index;
  }

  get state(): ReplicaState {
    return this.#isStopped || this.#isRetired ? 'stopping' : this.#phase;
  }

  /** Batches that its handler holds: at most one runs, the others wait. */
  get load(): number {
    return this.handler?.load ?? 0;
  }

  facts(runningRows: number): ReplicaFacts {
    return {
      index: this.index,
      state: this.state,
      since: this.#since,
      reason: this.reason ?? this.#lastEnd,
      place: this.handler?.place ?? null,
      devices: this.#devices ?? [],
      restarts: this.#restarts,
      runningRows,
      ...this.#usage.figures,
    };
  }

  /** Takes what it used since the last look. */
  measure(): Promise<void> {
    return this.#usage.measure(this.handler);
  }

  /** It gets nothing more; `stop` follows when nothing of it runs. */
  retire(): void {
    this.#isRetired = true;
    this.#since = Date.now();
  }

  /** It is wanted again after all. */
  revive(): void {
    this.#isRetired = false;
    this.#since = Date.now();
  }

  /** The running batch outlived its call timeout; nothing else stops a handler. */
  killForTimeout(): void {
    this.#timedOut = true;
    this.handler?.kill('the call timeout was reached');
  }

  async stop(graceMs: number): Promise<void> {
    const first = !this.#isStopped;
    this.#isStopped = true;
    this.#stopped.resolve();
    this.#preparing.abort(new Error('the replica is not wanted any more'));
    await this.handler?.stop(graceMs);
    await this.#lived;
    if (first && this.#devices) this.#options.room?.giveBack(this.#devices);
  }

  #enter(phase: Phase): void {
    this.#phase = phase;
    this.#since = Date.now();
  }

  async #live(): Promise<void> {
    while (!this.#isStopped) {
      const bornAt = performance.now();
      const cause = await this.#liveOnce();
      this.handler = null;
      if (this.#isStopped) break;
      this.#failures =
        cause === 'start_failed' || performance.now() - bornAt < HEALTHY_MS ? this.#failures + 1 : 0;
      this.#enter(cause === 'start_failed' ? 'failed' : 'starting');
      this.#options.onRestart(cause);
      this.#options.onChange();
      if (cause === 'start_failed') await this.#pause(this.#failures, WAIT_MS_MAX);
      else await this.#pause(this.#failures - 1, CRASH_WAIT_MS_MAX);
      this.#restarts += 1;
    }
  }

  /** Starts a handler and sees it through to its end; the answer is why it ended. */
  async #liveOnce(): Promise<'start_failed' | 'crash' | 'timeout'> {
    const { index, log } = this.#options;
    let handler: HandlerInstance | null = null;
    try {
      handler = await this.#launch();
      if (this.#isStopped) return await this.#leave(handler);
      this.handler = handler;
      this.#followService(handler);
      await handler.ready;
    } catch (error) {
      this.reason = shortened(error instanceof Error ? error.message : String(error));
      this.#lastEnd = this.reason;
      if (!this.#isStopped) log.warn({ replica: index, reason: this.reason }, 'handler cannot start');
      handler?.kill('it could not start');
      await handler?.gone;
      return 'start_failed';
    }
    if (!this.#isStopped) {
      this.#wasReady = true;
      this.#enter('ready');
      this.reason = null;
      this.#options.onChange();
    }
    const how = await handler.gone;
    this.#lastEnd = shortened(how);
    if (!this.#isStopped) log.warn({ replica: index, how }, 'handler process ended');
    const cause = this.#timedOut ? 'timeout' : 'crash';
    this.#wasReady = false;
    this.#timedOut = false;
    return cause;
  }

  /** While it starts as well: why it is not ready yet is what people look for then. */
  #followService(handler: HandlerInstance): void {
    handler.onService?.((reason) => {
      if (this.#isStopped || this.handler !== handler) return;
      this.reason = reason === null ? null : shortened(reason);
      if (this.#phase === 'ready' && reason !== null) this.#enter('starting');
      else if (this.#phase === 'starting' && reason === null && this.#wasReady) this.#enter('ready');
      this.#options.onChange();
    });
  }

  async #launch(): Promise<HandlerInstance> {
    const { index, backend, room, version, onLine } = this.#options;
    this.#devices ??= room?.takeDevices(version) ?? [];
    const { signal } = this.#preparing;
    return backend.launch({ version, replica: index, devices: this.#devices, onLine, signal });
  }

  /** It was stopped while its back end prepared it. */
  async #leave(handler: HandlerInstance): Promise<'crash'> {
    await handler.stop(0);
    return 'crash';
  }

  async #pause(failures: number, maxMs: number): Promise<void> {
    if (failures <= 0) return;
    const wait = Promise.withResolvers<void>();
    const timer = setTimeout(wait.resolve, Math.min(FIRST_WAIT_MS * 2 ** (failures - 1), maxMs));
    await Promise.race([wait.promise, this.#stopped.promise]);
    clearTimeout(timer);
  }
}

const USE: readonly ReplicaState[] = ['stopping', 'failed', 'starting', 'ready'];

/**
 * The most useful first: those that run a batch, then the idle ones, those that start, those that cannot. What runs a batch
 * and takes no other, as on a pod that leaves, is none of the first: it finishes when it is let go as well.
 */
export const byUse = (replicas: readonly Replica[], isRunning: (replica: Replica) => boolean): Replica[] => {
  const isBusy = (replica: Replica): number => Number(replica.state === 'ready' && isRunning(replica));
  return replicas.toSorted(
    (left, right) =>
      isBusy(right) - isBusy(left) ||
      USE.indexOf(right.state) - USE.indexOf(left.state) ||
      left.index - right.index,
  );
};
