/** How often holders of leases extend them within one. */
export const HEARTBEATS_A_LEASE = 3;
/** Of a heartbeat: several times a busy look, and 6 s of a lease of 30, more than a look waits for a store that is away. */
const GAP_SHARE = 0.6;
/** Ten times the time between two looks: with short leases every look that is a little late would be a gap otherwise. */
const GAP_MS_MIN = 500;
/** In leases. Two gaps of any length count as two at most, so that a heartbeat is left after them. */
const HELD_LEASES_MAX = 3;
/** More than these, as they count, are longer than a lease is held. */
const GAPS_MAX = 32;

type Gap = { readonly from: number; readonly to: number };

/**
 * When leases may end. Those of healthy workers run out as well while the store is away, or the process that ends them is
 * stopped: after a gap between two looks, and before the first, their holders get the time of a heartbeat. What is shorter
 * than a gap costs a holder of a usual lease one heartbeat, and the lease has two left when that is due.
 *
 * Where gaps come again and again there may never be so much time between them: then a lease ends three leases after its
 * end, in which a gap counts as one lease at most, however long it was.
 */
export class LeaseWatch {
  readonly #reachMs: number;
  #lookedAt = Number.NEGATIVE_INFINITY;
  /** Since when the looks have had no gap. */
  #since = Number.POSITIVE_INFINITY;
  /** Since all leases that were over might end; the latest comes first. */
  #gaps: Gap[] = [];

  /** @param reachMs how much later than this process another may reach the store after it was away */
  constructor(reachMs: number) {
    this.#reachMs = reachMs;
  }

  /**
   * Leases whose end is not after the time it answers may end; -Infinity: none.
   * @param heartbeatMs how often holders extend, a third of a lease; undefined: leases may end at once
   */
  mayEndUntil(now: number, heartbeatMs: number | undefined): number {
    if (heartbeatMs === undefined) return now;
    const gapMs = Math.max(heartbeatMs * GAP_SHARE, GAP_MS_MIN);
    // The clock was set back: the times of before say nothing.
    if (now < this.#lookedAt - gapMs) {
      this.#lookedAt = Number.NEGATIVE_INFINITY;
      this.#gaps = [];
    }
    if (now - this.#lookedAt > gapMs) this.#since = Number.POSITIVE_INFINITY;
    // The look after the gap may itself have waited long; this one began after its answer.
    else if (this.#since === Number.POSITIVE_INFINITY) this.#since = now;
    if (now < this.#since + heartbeatMs + this.#reachMs)
      return this.#heldTooLong(now, HEARTBEATS_A_LEASE * heartbeatMs);
    this.#gaps = [];
    return now;
  }

  /** The look that began at this time went through. */
  looked(now: number): void {
    if (this.#since === Number.POSITIVE_INFINITY)
      this.#gaps = [{ from: this.#lookedAt, to: now }, ...this.#gaps].slice(0, GAPS_MAX);
    this.#lookedAt = now;
  }

  /** The moment since which a lease that ended then was held for as long as one may be. */
  #heldTooLong(now: number, leaseMs: number): number {
    let at = now;
    let left = HELD_LEASES_MAX * leaseMs + this.#reachMs;
    // The time since the last look is a gap as well, if it is long.
    for (const { from, to } of [{ from: this.#lookedAt, to: now }, ...this.#gaps]) {
      if (at - to >= left) break;
      left -= at - to;
      const countedMs = Math.min(to - from, leaseMs);
      if (countedMs >= left) return to - left;
      left -= countedMs;
      at = from;
    }
    return at - left;
  }
}
