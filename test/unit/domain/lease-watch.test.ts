/** When leases end, in virtual time: whatever hinders the looks, and whatever the length of a lease. */
import { describe, expect, it } from 'vitest';
import { LeaseWatch } from '../../../shared/domain/lease-watch.ts';

const LOOK_MS = 50;
const REACH_MS = 2000;
const START = 1_800_000_000_000;

class Looks {
  readonly watch = new LeaseWatch(REACH_MS);
  readonly heartbeatMs: number;
  now = START;

  constructor(leaseMs: number) {
    this.heartbeatMs = leaseMs / 3;
  }

  /** One look; may a lease that ended then be lost? */
  look(ms: number, endedAt: number): boolean {
    this.now += ms;
    const until = this.watch.mayEndUntil(this.now, this.heartbeatMs);
    this.watch.looked(this.now);
    return endedAt <= until;
  }

  /** Looks for so long, and each in time: may the lease be lost at one of them? */
  watchFor(ms: number, endedAt: number): boolean {
    let isLost = false;
    for (const end = this.now + ms; this.now < end; ) isLost = this.look(LOOK_MS, endedAt) || isLost;
    return isLost;
  }
}

/** How long after its end a lease ended where the looks pause for so long, so often. */
const delayOf = (leaseMs: number, pauseMs: number, everyMs: number): number => {
  const looks = new Looks(leaseMs);
  looks.watchFor(2 * leaseMs + 2 * REACH_MS, Number.POSITIVE_INFINITY);
  const endedAt = looks.now + 1;
  while (looks.now < endedAt + 100 * leaseMs + 100_000)
    if (looks.look(pauseMs, endedAt) || looks.watchFor(everyMs - pauseMs, endedAt))
      return looks.now - endedAt;
  return Number.POSITIVE_INFINITY;
};

describe('the leases of a dead worker', () => {
  it.each([
    [200, 60, 60],
    [200, 350, 1000],
    [230, 60, 60],
    [1000, 260, 2000],
    [3000, 450, 2800],
  ])('end in time where a lease takes %d ms and looks pause for %d ms every %d ms', (lease, pause, every) => {
    expect(delayOf(lease, pause, every)).toBeLessThanOrEqual(every + LOOK_MS);
  });

  it.each([
    [3000, 650, 2800],
    [3000, 2900, 2900],
    [30_000, 6100, 11_000],
    [30_000, 10_000, 10_000],
  ])('end at last where a lease takes %d ms and looks pause for %d ms every %d ms', (lease, pause, every) => {
    expect(delayOf(lease, pause, every)).toBeLessThanOrEqual(3 * lease + REACH_MS + every);
  });

  it('end although each look takes longer than a lease', () => {
    expect(delayOf(3000, 10_000, 10_000)).toBeLessThan(50_000);
    expect(delayOf(200, 600, 2000)).toBeLessThan(10_000);
  });

  it('end after a clock was set back', () => {
    const looks = new Looks(3000);
    looks.watchFor(10_000, Number.POSITIVE_INFINITY);
    looks.look(-3_600_000, looks.now);
    const endedAt = looks.now + 1;
    expect(looks.watchFor(1000 + REACH_MS + 2 * LOOK_MS, endedAt)).toBe(true);
  });
});

describe('the leases of a live worker', () => {
  it.each([200, 1000, 30_000])('of %d ms outlast two outages, whatever these take', (leaseMs) => {
    for (const first of [leaseMs, 5 * leaseMs, 3_600_000])
      for (const second of [leaseMs, 5 * leaseMs, 3_600_000]) {
        const looks = new Looks(leaseMs);
        const graceMs = looks.heartbeatMs + REACH_MS;
        looks.watchFor(3 * graceMs, Number.POSITIVE_INFINITY);
        const endedAt = looks.now + 1;
        expect(looks.look(first + 500, endedAt)).toBe(false);
        expect(looks.watchFor(leaseMs / 6, endedAt)).toBe(false);
        expect(looks.look(second + 500, endedAt)).toBe(false);
        expect(looks.watchFor(graceMs - 2 * LOOK_MS, endedAt)).toBe(false);
        expect(looks.watchFor(4 * LOOK_MS, endedAt)).toBe(true);
      }
  });

  it('outlast a time in which no look went through', () => {
    const looks = new Looks(3000);
    looks.watchFor(10_000, Number.POSITIVE_INFINITY);
    const endedAt = looks.now + 1;
    for (let tries = 0; tries < 100; tries += 1) {
      looks.now += 10_000;
      expect(looks.watch.mayEndUntil(looks.now, looks.heartbeatMs)).toBeLessThan(endedAt);
    }
    expect(looks.watchFor(3000, endedAt)).toBe(false);
    expect(looks.watchFor(100, endedAt)).toBe(true);
  });
});
