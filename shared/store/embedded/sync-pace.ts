/**
 * Whether a sync is made in place. To hand it to another thread and to hear of its end costs some 0.3 ms under load, which is more
 * than a good disk takes; a slow one, or one that others write to, would hold up all that this thread does.
 */

/** In milliseconds, as the others. */
const QUICK_MS = 0.5;
/** One that took longer counts as this: a single slow one is no slow disk. */
const COUNTED_MS_MAX = 2;
/** Of the newest in the mean. */
const NEWEST_SHARE = 1 / 8;
/** A disk that was slow is tried in place again after this. */
const RETRY_MS = 1000;

export class SyncPace {
  #meanMs = 0;
  #slowAt = Number.NEGATIVE_INFINITY;

  /** @param now monotonic */
  isQuick(now: number): boolean {
    return this.#meanMs <= QUICK_MS || now >= this.#slowAt + RETRY_MS;
  }

  /** One that was made in place has ended. */
  took(ms: number, now: number): void {
    const counted = Math.min(ms, COUNTED_MS_MAX);
    // The first look after a pause says more than what was before it.
    this.#meanMs = this.#meanMs > QUICK_MS ? counted : this.#meanMs + (counted - this.#meanMs) * NEWEST_SHARE;
    if (this.#meanMs > QUICK_MS) this.#slowAt = now;
  }
}
