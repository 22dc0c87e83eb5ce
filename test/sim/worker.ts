/**
 * A simulated worker: leases, "runs" rows by their values, and settles through the real decision code. It goes
 * silent, answers late, settles twice and hands batches back, as real ones do.
 */
import { decide, IsolationTrail, type RunEnd } from '../../shared/domain/retry.ts';
import { rowsOf } from '../../shared/domain/slices.ts';
import type { LeasedBatch, QueueStore, Settlement } from '../../shared/store/ports/queue.ts';
import { type Plan, valuesOf } from './plan.ts';
import type { Random } from './random.ts';
import type { VirtualTime } from './virtual-time.ts';

const LEASE_MS = 300;

export type WorkerCounts = { runs: number; stale: number; silent: number; released: number; doubled: number };

export class SimulatedWorker {
  readonly counts: WorkerCounts = { runs: 0, stale: 0, silent: 0, released: 0, doubled: 0 };
  #name: string;
  #queue: QueueStore;
  #time: VirtualTime;
  #random: Random;
  #plan: Plan;
  #trail = new IsolationTrail();
  #running = 0;
  #leasing = false;

  constructor(name: string, queue: QueueStore, time: VirtualTime, random: Random, plan: Plan) {
    this.#name = name;
    this.#queue = queue;
    this.#time = time;
    this.#random = random;
    this.#plan = plan;
    queue.watch({ kind: 'ready' }, () => this.#pull());
  }

  /** Offers what is free and leases what is ready; called again and again, as a real worker renews its offer. */
  async tick(): Promise<void> {
    await this.#pull();
  }

  async #pull(): Promise<void> {
    if (this.#leasing) return;
    this.#leasing = true;
    try {
      const { versionId, slots } = this.#plan;
      while (this.#running < slots) {
        const request = { now: this.#time.wall, workerId: this.#name, versionId, leaseMs: LEASE_MS, max: 1 };
        const [batch] = await this.#queue.lease(request);
        if (!batch) break;
        this.#run(batch);
      }
      await this.#offer();
    } finally {
      this.#leasing = false;
    }
  }

  async #offer(): Promise<void> {
    const { versionId, slots } = this.#plan;
    await this.#queue.offer({
      now: this.#time.wall,
      workerId: this.#name,
      versionId,
      idle: slots - this.#running,
      prefetch: 0,
      until: this.#time.wall + 1_000_000,
    });
  }

  #run(batch: LeasedBatch): void {
    this.#running += 1;
    this.counts.runs += 1;
    const fate = this.#random.next();
    const end = (): void => {
      this.#running -= 1;
      void this.#pull();
    };
    if (fate < this.#plan.releaseShare) {
      this.counts.released += 1;
      this.#time.after(1, () => void this.#release(batch).then(end));
      return;
    }
    const silent = fate > 1 - this.#plan.silentShare;
    if (silent) this.counts.silent += 1;
    // A silent worker answers after its lease is over: the store must refuse it.
    const runMs = silent ? LEASE_MS * 3 : this.#random.int(1, 60);
    const startedAt = this.#time.wall;
    this.#time.after(runMs, () => void this.#settle(batch, startedAt, silent).then(end));
  }

  async #release(batch: LeasedBatch): Promise<void> {
    await this.#queue.release({ now: this.#time.wall, batchId: batch.batchId, token: batch.token });
  }

  async #settle(batch: LeasedBatch, startedAt: number, silent: boolean): Promise<void> {
    const settlement = this.#settlement(batch, startedAt);
    const answer = await this.#queue.settle(settlement);
    if (answer.stale) this.counts.stale += 1;
    if (silent && answer.accepted) throw new Error('a settle after the lease was over was accepted');
    if (answer.accepted && this.#random.chance(0.1)) {
      this.counts.doubled += 1;
      const again = await this.#queue.settle(settlement);
      if (again.accepted) throw new Error('the same settle was accepted twice');
    }
  }

  #settlement(batch: LeasedBatch, startedAt: number): Settlement {
    const values = valuesOf(batch);
    if (values.length !== rowsOf(batch.slices))
      throw new Error('the input has another length than the slices');
    const run = this.#plan.run(values, this.#random);
    const hopeless = run.end === 'error' ? this.#trail.failed(batch.mode, run.error) : false;
    if (run.end === 'ok') this.#trail.succeeded();
    const decision = decide(batch, this.#plan.policy, run, {
      now: this.#time.wall,
      random: this.#random.next(),
      hopeless,
    });
    return {
      now: this.#time.wall,
      batchId: batch.batchId,
      token: batch.token,
      outcomes: decision.outcomes,
      output: run.end === 'ok' ? this.#plan.output(values) : null,
      continuations: decision.continuations,
      startedAt,
      handlerMs: this.#time.wall - startedAt,
    };
  }
}

export type { RunEnd };
