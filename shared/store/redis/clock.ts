/**
 * Whether this machine's clock and the server's are those of one world: the verbs take their caller's time, and what one
 * process writes (the end of a lease, of an ownership) another compares with its own.
 */
import { SluiceError } from '../../errors/sluice-error.ts';
import type { Link } from './link.ts';

/** A quarter of a lease: of two clocks that are off by it, in both directions, a lease has a sixth left when it is renewed. */
const LEASE_SHARE = 1 / 4;
/** That of the buffers' leases, four seconds each. */
const SKEW_MS_MAX = 1000;

/** How far a clock may be off, in milliseconds, where workers' leases are so long. */
export const skewMsMaxOf = (leaseMs: number): number => Math.min(SKEW_MS_MAX, leaseMs * LEASE_SHARE);

const secondsOf = (ms: number): string =>
  `${Math.abs(ms) < 10_000 ? (ms / 1000).toFixed(1) : Math.round(ms / 1000)} s`;

export class ServerClock {
  readonly #link: Link;
  readonly #skewMsMax: number;
  readonly #wall: () => number;
  /** The server's time less ours when it was measured last, and by how much ours led the monotonic clock then. */
  #skewMs = 0;
  #leadMs: number;

  /** @param wall this machine's time, in milliseconds since the epoch */
  constructor(link: Link, skewMsMax: number, wall: () => number = () => Date.now()) {
    this.#link = link;
    this.#skewMsMax = skewMsMax;
    this.#wall = wall;
    this.#leadMs = this.#lead();
  }

  async measure(): Promise<void> {
    const before = this.#wall();
    const [seconds, micros] = await this.#link.command<readonly [Buffer, Buffer]>('TIME');
    const after = this.#wall();
    const told = Number(seconds) * 1000 + Number(micros) / 1000;
    // Told somewhere between the two, so that a slow answer is no skew.
    this.#skewMs = told < before ? told - before : Math.max(0, told - after);
    this.#leadMs = this.#lead();
  }

  /** Why this process must not touch leases by its own time; null while it may. A clock that was just set is noticed at once. */
  fault(): SluiceError | null {
    const skewMs = this.#skewNow();
    if (Math.abs(skewMs) <= this.#skewMsMax) return null;
    const here = this.#wall();
    const told = (at: number): string => new Date(at).toISOString();
    return new SluiceError(
      'store_unavailable',
      `This machine's clock is ${secondsOf(Math.abs(skewMs))} ${skewMs < 0 ? 'ahead of' : 'behind'} that of the Redis server (here ${told(here)}, there ${told(here + skewMs)}), so leases and deadlines would end at wrong times: set both by NTP, within ${secondsOf(this.#skewMsMax)}.`,
    );
  }

  /** The time `now` of this machine by the server's clock where ours is off. */
  byServer(now: number): number {
    const skewMs = this.#skewNow();
    return Math.abs(skewMs) <= this.#skewMsMax ? now : now + skewMs;
  }

  #skewNow(): number {
    return this.#skewMs - (this.#lead() - this.#leadMs);
  }

  /** It changes when the clock is set, or the machine slept. */
  #lead(): number {
    return this.#wall() - performance.now();
  }
}
