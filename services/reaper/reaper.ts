/**
 * The reaper: asks the store what fell due (lost leases, passed deadlines, retries whose back-off is over) and drops
 * what is past its retention. It holds no state: what it misses in a crash is found by the next one.
 */
import { HEARTBEATS_A_LEASE } from '../../shared/domain/lease-watch.ts';
import type { Log } from '../../shared/runtime/log.ts';
import { RepeatedWork } from '../../shared/runtime/repeated-work.ts';
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
  readonly leaseMs: number;
  readonly wall: () => number;
};

export class Reaper implements Service {
  readonly #options: ReaperOptions;
  readonly #looks: RepeatedWork;
  readonly #sweeps: RepeatedWork;

  constructor(options: ReaperOptions) {
    this.#options = options;
    const onError = (err: unknown): void => options.log.error({ err }, 'reaper: a look failed; trying again');
    this.#looks = new RepeatedWork({ everyMs: LOOK_MS, work: () => this.#look(), onError });
    this.#sweeps = new RepeatedWork({ everyMs: SWEEP_MS, work: () => this.#sweep(), onError });
  }

  async start(): Promise<void> {
    await Promise.all([this.#looks.start(), this.#sweeps.start()]);
  }

  async stop(): Promise<void> {
    await Promise.all([this.#looks.stop(), this.#sweeps.stop()]);
  }

  async #look(): Promise<void> {
    const { store, claimsMax, leaseMs, wall } = this.#options;
    const heartbeatMs = leaseMs / HEARTBEATS_A_LEASE;
    for (let more = true; more && !this.#looks.isStopped; ) {
      const answer = await store.queue.expired({ now: wall(), claimsMax, limit: ITEMS_MAX, heartbeatMs });
      if (answer.leases > 0) this.#options.log.warn({ leases: answer.leases }, 'reaper: leases were lost');
      more = answer.more;
    }
  }

  async #sweep(): Promise<void> {
    const { store, wall } = this.#options;
    for (let more = true; more && !this.#sweeps.isStopped; ) {
      more = await store.retention.sweep({ now: wall(), limit: ITEMS_MAX });
    }
  }
}
