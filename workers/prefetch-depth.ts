/**
 * How many full batches a replica takes ahead of the one that runs. Between a handler's answer and the next batch lie
 * two commits of the store (the seal's and the settle's) and a few messages: about a millisecond each on an idle
 * machine, several on a busy one. A handler that takes longer needs one batch ahead; a faster one would wait for the store.
 * Only full batches are taken ahead (docs/decisions/0002), so depth costs no fill; what it costs is how long a
 * cancelled row may still run, which is the time that it covers.
 */
const AHEAD_MS = 10;
/** Bounds what a killed handler hands back, and the bytes that lie in its socket. */
const BATCHES_MAX = 32;
/** Weight of the newest handler time; a few batches are enough to follow a change. */
const NEWEST = 0.2;

export class PrefetchDepth {
  #meanMs: number | null = null;

  /** Notes a run's handler time, in milliseconds. */
  observe(handlerMs: number): void {
    this.#meanMs = this.#meanMs === null ? handlerMs : this.#meanMs + NEWEST * (handlerMs - this.#meanMs);
  }

  /** Batches ahead; 1 until a handler time is known. */
  get batches(): number {
    if (this.#meanMs === null) return 1;
    return Math.max(1, Math.min(BATCHES_MAX, Math.ceil(AHEAD_MS / Math.max(this.#meanMs, 0.01))));
  }
}
