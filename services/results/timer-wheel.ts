/** Many coarse timeouts at the price of one interval: a wait ends at most one tick late, and starting one allocates no timer. */
export type Timeout = { readonly tick: number; readonly work: () => void };

const TICK_MS = 20;

export class TimerWheel {
  #buckets = new Map<number, Set<Timeout>>();
  #interval: NodeJS.Timeout | null = null;
  #tick = 0;
  #size = 0;

  after(ms: number, work: () => void): Timeout {
    const now = Math.floor(performance.now() / TICK_MS);
    if (this.#interval === null) {
      this.#tick = now;
      this.#interval = setInterval(() => this.#turn(), TICK_MS);
      this.#interval.unref();
    }
    const timeout = { tick: Math.max(now, this.#tick) + Math.max(1, Math.ceil(ms / TICK_MS)), work };
    let bucket = this.#buckets.get(timeout.tick);
    if (bucket === undefined) {
      bucket = new Set();
      this.#buckets.set(timeout.tick, bucket);
    }
    bucket.add(timeout);
    this.#size += 1;
    return timeout;
  }

  cancel(timeout: Timeout): void {
    const bucket = this.#buckets.get(timeout.tick);
    if (!bucket?.delete(timeout)) return;
    if (bucket.size === 0) this.#buckets.delete(timeout.tick);
    this.#size -= 1;
  }

  stop(): void {
    if (this.#interval !== null) clearInterval(this.#interval);
    this.#interval = null;
    this.#buckets.clear();
    this.#size = 0;
  }

  #turn(): void {
    const now = Math.floor(performance.now() / TICK_MS);
    while (this.#tick < now) {
      this.#tick += 1;
      const bucket = this.#buckets.get(this.#tick);
      if (bucket === undefined) continue;
      this.#buckets.delete(this.#tick);
      this.#size -= bucket.size;
      for (const timeout of bucket) timeout.work();
    }
    if (this.#size === 0) this.stop();
  }
}
