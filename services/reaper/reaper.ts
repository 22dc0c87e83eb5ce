/**
 * The reaper: asks the store what fell due (lost leases, passed deadlines, retries whose back-off is over) and drops
 * what is past its retention. It holds no state: what it misses in a crash is found by the next one.
 */
import type { Log } from '../../shared/runtime/log.ts';
import type { Service } from '../../shared/runtime/service.ts';
import type { Store } from '../../shared/store/ports/store.ts';

/** Deadlines and retries are met within this; an empty look costs the store a few microseconds. */
const LOOK_MS = 50;
const SWEEP_MS = 5000;
/** Items handled in one transaction, so that others' verbs wait a few milliseconds at most. */
const ITEMS_MAX = 500;

export type ReaperOptions = {
  readonly store: Store;
  readonly log: Log;
  readonly claimsMax: number;
  readonly wall: () => number;
};

export class Reaper implements Service {
  #options: ReaperOptions;
  #timers: NodeJS.Timeout[] = [];
  #state: 'new' | 'running' | 'stopped' = 'new';
  #running: Promise<void> = Promise.resolve();

  constructor(options: ReaperOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    if (this.#state !== 'new') return;
    this.#state = 'running';
    this.#every(LOOK_MS, () => this.#look());
    this.#every(SWEEP_MS, () => this.#sweep());
  }

  async stop(): Promise<void> {
    this.#state = 'stopped';
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
    await this.#running;
  }

  /** Runs `work` every `ms`, never twice at once; a look that comes while one runs is left out. */
  #every(ms: number, work: () => Promise<void>): void {
    let busy = false;
    const timer = setInterval(() => {
      if (busy || this.#state !== 'running') return;
      busy = true;
      const run = work()
        .catch((error: unknown) =>
          this.#options.log.error({ err: error }, 'reaper: a look failed; trying again'),
        )
        .finally(() => {
          busy = false;
        });
      this.#running = Promise.all([this.#running, run]).then(() => undefined);
    }, ms);
    this.#timers.push(timer);
  }

  async #look(): Promise<void> {
    const { store, claimsMax, wall } = this.#options;
    for (let more = true; more && this.#state === 'running'; ) {
      const answer = await store.queue.expired({ now: wall(), claimsMax, limit: ITEMS_MAX });
      if (answer.leases > 0) this.#options.log.warn({ leases: answer.leases }, 'reaper: leases were lost');
      more = answer.more;
    }
  }

  async #sweep(): Promise<void> {
    const { store, wall } = this.#options;
    for (let more = true; more && this.#state === 'running'; ) {
      more = await store.retention.sweep({ now: wall(), limit: ITEMS_MAX });
    }
  }
}
