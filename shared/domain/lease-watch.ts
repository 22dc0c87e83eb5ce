/** Of a heartbeat: several times a busy look, and 6 s of a lease of 30, more than a look waits for a store that is away. */
const GAP_SHARE = 0.6;

/**
 * When leases may end. Those of healthy workers run out as well while the store is away, or the process that ends them is
 * stopped: after a gap between two looks, and before the first, their holders get the time of a heartbeat. What is shorter
 * than a gap costs a holder one heartbeat, and a lease has two left when that is due.
 */
export class LeaseWatch {
  readonly #reachMs: number;
  #lookedAt = Number.NEGATIVE_INFINITY;
  /** Since when the looks have had no gap. */
  #since = Number.POSITIVE_INFINITY;

  /** @param reachMs how much later than this process another may reach the store after it was away */
  constructor(reachMs: number) {
    this.#reachMs = reachMs;
  }

  /** @param heartbeatMs how often holders extend; undefined: leases may end at once */
  mayEnd(now: number, heartbeatMs: number | undefined): boolean {
    if (heartbeatMs === undefined) return true;
    // A clock that was set leaps as well, in either direction.
    if (Math.abs(now - this.#lookedAt) > heartbeatMs * GAP_SHARE) this.#since = Number.POSITIVE_INFINITY;
    // The look after the gap may itself have waited long; this one began after its answer.
    else if (this.#since === Number.POSITIVE_INFINITY) this.#since = now;
    return now >= this.#since + heartbeatMs + this.#reachMs;
  }

  /** The look that began at this time went through. */
  looked(now: number): void {
    this.#lookedAt = now;
  }
}
