/**
 * How many full batches a replica takes ahead of the one that runs. Between a handler's answer and the next batch lie
 * two commits of the store (the seal's and the settle's) and a few messages: about a millisecond each on an idle
 * machine, several on a busy one. A handler that takes longer needs one batch ahead; a faster one would wait for the store.
 * Only full batches are taken ahead (docs/decisions/0002), so depth costs no fill; what it costs is how long a
 * cancelled row may still run, which is the time that it covers.
 */
const AHEAD_MS = 10;
/** Bounds what a killed handler hands back. */
const BATCHES_MAX = 32;
/** They lie in our memory and in the handler's socket: as much as the largest batch that a function makes by default. */
const BYTES_MAX = 64 * 2 ** 20;
/** Weight of the newest handler time and size; a few batches are enough to follow a change. */
const NEWEST = 0.2;

const mean = (before: number | null, newest: number): number =>
  before === null ? newest : before + NEWEST * (newest - before);

export class PrefetchDepth {
  #meanMs: number | null = null;
  #bytes: number | null = null;

  /** Notes the bytes of a batch that was taken. A larger one counts at once, since as many more may come with the next lease. */
  take(bytes: number): void {
    this.#bytes = Math.max(bytes, mean(this.#bytes, bytes));
  }

  /** Notes a run's handler time, in milliseconds. */
  observe(handlerMs: number): void {
    this.#meanMs = mean(this.#meanMs, handlerMs);
  }

  /** Batches ahead; 1 until a handler time is known. */
  get batches(): number {
    if (this.#meanMs === null) return 1;
    const wanted = Math.ceil(AHEAD_MS / Math.max(this.#meanMs, 0.01));
    const fitting = Math.floor(BYTES_MAX / Math.max(this.#bytes ?? 0, 1));
    return Math.max(1, Math.min(BATCHES_MAX, wanted, fitting));
  }
}
