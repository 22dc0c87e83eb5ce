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
/** What NTP cannot promise must not stop all machines at once; leases below two seconds may end early for it. */
const SKEW_MS_MIN = 500;

/** How far a clock may be off, in milliseconds, where workers' leases are so long. */
export const skewMsMaxOf = (leaseMs: number): number =>
  Math.max(SKEW_MS_MIN, Math.min(SKEW_MS_MAX, leaseMs * LEASE_SHARE));

/** Times that the server's is asked for again, where the clock was set or the machine slept meanwhile. */
const TRIES = 3;

const secondsOf = (ms: number): string =>
  `${Math.abs(ms) < 10_000 ? (ms / 1000).toFixed(1) : Math.round(ms / 1000)} s`;

export class ServerClock {
  readonly #link: Link;
  readonly #skewMsMax: number;
  readonly #wall: () => number;
  readonly #monotonic: () => number;
  /** The server's time less ours when it was measured last, and by how much ours led the monotonic clock then. */
  #skewMs = 0;
  #leadMs: number;
  /** That lead when both clocks agreed last. */
  #agreedLeadMs: number;
  #wasOff = false;
  readonly #onRight: (() => void)[] = [];

  /**
   * @param wall this machine's time, in milliseconds since the epoch
   * @param monotonic milliseconds since any time; it stands while the machine sleeps
   */
  constructor(
    link: Link,
    skewMsMax: number,
    wall: () => number = () => Date.now(),
    monotonic: () => number = () => performance.now(),
  ) {
    this.#link = link;
    this.#skewMsMax = skewMsMax;
    this.#wall = wall;
    this.#monotonic = monotonic;
    this.#leadMs = this.#lead();
    this.#agreedLeadMs = this.#leadMs;
  }

  /** Called whenever a clock that was measured to be off is right again. */
  onRight(listener: () => void): void {
    this.#onRight.push(listener);
  }

  async measure(): Promise<void> {
    const { least, most } = await this.#ask();
    // What was known is kept where the answer allows it: a slow one is no skew, and no proof that there is none.
    this.#skewMs = Math.max(least, Math.min(most, this.#skewNow()));
    this.#leadMs = this.#lead();
    if (Math.abs(this.#skewMs) > this.#skewMsMax) {
      this.#wasOff = true;
      return;
    }
    this.#agreedLeadMs = this.#leadMs;
    if (!this.#wasOff) return;
    this.#wasOff = false;
    for (const listener of this.#onRight) listener();
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

  /** Whether there is a fault; one that the server has not been asked about, as after a sleep, is asked about first. */
  async isOff(): Promise<boolean> {
    if (this.fault() === null) return false;
    const isMeasured = Math.abs(this.#skewMs) > this.#skewMsMax;
    if (!isMeasured) await this.measure();
    return this.fault() !== null;
  }

  /**
   * Where there is a fault, the time `now` of this machine as both clocks would have it had none been set since they agreed: the monotonic
   * clock carries on from there. The server's own would do only where ours is the wrong one.
   */
  agreed(now: number): number {
    return this.fault() === null ? now : now - (this.#lead() - this.#agreedLeadMs);
  }

  /** Between what the server's time less ours lies. */
  async #ask(): Promise<{ least: number; most: number }> {
    for (let left = TRIES; ; left -= 1) {
      const [before, lead] = [this.#wall(), this.#lead()];
      const [seconds, micros] = await this.#link.command<readonly [Buffer, Buffer]>('TIME');
      const told = Number(seconds) * 1000 + Number(micros) / 1000;
      const hasLeapt = Math.abs(this.#lead() - lead) > this.#skewMsMax;
      if (!hasLeapt || left === 1) return { least: told - this.#wall(), most: told - before };
    }
  }

  #skewNow(): number {
    return this.#skewMs - (this.#lead() - this.#leadMs);
  }

  /** It changes when the clock is set, or the machine slept. */
  #lead(): number {
    return this.#wall() - this.#monotonic();
  }
}
