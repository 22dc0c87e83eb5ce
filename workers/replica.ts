/**
 * One replica of a function version: a handler process that is started again whenever it ends.
 *
 *   starting ─► ready ─► starting …        (it died: at once, slower when it keeps dying young)
 *      └─► failed ─► starting …            (it cannot start: slower and slower, the reason is kept)
 *   any ─► stopped
 */

import type { FunctionVersion } from '../shared/domain/function.ts';
import type { Log } from '../shared/runtime/log.ts';
import type { Launcher } from './launcher.ts';
import { HandlerProcess } from './process.ts';

/** Waits between starts: a minute at most after a failed start, since what is missing may come back. */
const FIRST_WAIT_MS = 250;
const WAIT_MS_MAX = 60_000;
/** A crash is mostly a row's doing, and the rows that are isolated from it wait for the process. */
const CRASH_WAIT_MS_MAX = 1000;
/** A process that lived this long was healthy: its end starts the waits afresh. */
const HEALTHY_MS = 5000;
/** A reason is read by a person in a status answer. */
const REASON_CHARACTERS_MAX = 4000;

export type ReplicaState = 'starting' | 'ready' | 'failed' | 'stopped';

export type ReplicaOptions = {
  readonly index: number;
  readonly log: Log;
  readonly launcher: Launcher;
  readonly version: FunctionVersion;
  readonly onChange: () => void;
  readonly onRestart: (cause: 'start_failed' | 'crash' | 'timeout') => void;
};

/** The end says most: a traceback's last line is the exception. */
const shortened = (reason: string): string =>
  reason.length <= REASON_CHARACTERS_MAX ? reason : `…${reason.slice(-REASON_CHARACTERS_MAX)}`;

export class Replica {
  state: ReplicaState = 'starting';
  /** Why it is not ready, when it failed. */
  reason: string | null = null;
  process: HandlerProcess | null = null;

  readonly #options: ReplicaOptions;
  readonly #stopped = Promise.withResolvers<void>();
  readonly #lived: Promise<void>;
  readonly #device: number | null;
  #failures = 0;
  #isStopped = false;
  #timedOut = false;

  constructor(options: ReplicaOptions) {
    this.#options = options;
    this.#device = options.launcher.takeDevice(options.version);
    this.#lived = this.#live();
  }

  get index(): number {
    return this.#options.index;
  }

  /** Batches that its process holds: at most one runs and one waits. */
  get load(): number {
    return this.process?.load ?? 0;
  }

  /** The running batch outlived its call timeout; nothing else stops a handler. */
  killForTimeout(): void {
    this.#timedOut = true;
    this.process?.kill('the call timeout was reached');
  }

  async stop(graceMs: number): Promise<void> {
    const first = !this.#isStopped;
    this.#isStopped = true;
    this.state = 'stopped';
    this.#stopped.resolve();
    await this.process?.stop(graceMs);
    await this.#lived;
    if (first) this.#options.launcher.giveBack(this.#device);
  }

  async #live(): Promise<void> {
    while (!this.#isStopped) {
      const bornAt = performance.now();
      const cause = await this.#liveOnce();
      this.process = null;
      if (this.#isStopped) break;
      this.#failures =
        cause === 'start_failed' || performance.now() - bornAt < HEALTHY_MS ? this.#failures + 1 : 0;
      this.state = cause === 'start_failed' ? 'failed' : 'starting';
      this.#options.onRestart(cause);
      this.#options.onChange();
      if (cause === 'start_failed') await this.#pause(this.#failures, WAIT_MS_MAX);
      else await this.#pause(this.#failures - 1, CRASH_WAIT_MS_MAX);
    }
  }

  /** Starts a process and sees it through to its end; the answer is why it ended. */
  async #liveOnce(): Promise<'start_failed' | 'crash' | 'timeout'> {
    const { index, log, launcher, version } = this.#options;
    try {
      const options = await launcher.launch(version, index, this.#device);
      if (this.#isStopped) return 'crash';
      this.process = new HandlerProcess(options);
      await this.process.ready;
    } catch (error) {
      this.reason = shortened(error instanceof Error ? error.message : String(error));
      if (!this.#isStopped) log.warn({ replica: index, reason: this.reason }, 'handler cannot start');
      this.process?.kill('it could not start');
      await this.process?.gone;
      return 'start_failed';
    }
    if (!this.#isStopped) {
      this.state = 'ready';
      this.reason = null;
      this.#options.onChange();
    }
    const how = await this.process.gone;
    if (!this.#isStopped) log.warn({ replica: index, how }, 'handler process ended');
    const cause = this.#timedOut ? 'timeout' : 'crash';
    this.#timedOut = false;
    return cause;
  }

  async #pause(failures: number, maxMs: number): Promise<void> {
    if (failures <= 0) return;
    const wait = Promise.withResolvers<void>();
    const timer = setTimeout(wait.resolve, Math.min(FIRST_WAIT_MS * 2 ** (failures - 1), maxMs));
    await Promise.race([wait.promise, this.#stopped.promise]);
    clearTimeout(timer);
  }
}
