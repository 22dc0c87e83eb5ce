/**
 * Latencies in a fixed array of counts, in the manner of HdrHistogram: 128 steps an octave, so a percentile is right
 * to 0.8 %, whatever the number of requests. Microseconds from 1 to 2^31 (36 minutes).
 */
const STEPS = 128;
const OCTAVES = 25;
const US_MAX = 2 ** 31 - 1;

export class Latencies {
  readonly counts: Uint32Array;

  constructor(counts: ArrayLike<number> = new Uint32Array(STEPS * OCTAVES)) {
    this.counts = Uint32Array.from(counts);
  }

  record(us: number): void {
    const value = us < US_MAX ? us | 0 : US_MAX;
    const shift = value < STEPS ? 0 : 24 - Math.clz32(value);
    const index = shift * STEPS + (value >> shift);
    this.counts[index]! += 1;
  }

  add(other: Latencies): void {
    for (let i = 0; i < this.counts.length; i++) this.counts[i]! += other.counts[i]!;
  }

  /** Milliseconds at `share` (0 to 1) of all requests: the middle of the step it falls in. NaN without requests. */
  percentileMs(share: number): number {
    const total = this.counts.reduce((sum, count) => sum + count, 0);
    if (total === 0) return Number.NaN;
    let left = Math.max(1, Math.ceil(total * share));
    let index = 0;
    while (left > this.counts[index]!) left -= this.counts[index++]!;
    const shift = index < 2 * STEPS ? 0 : Math.floor(index / STEPS) - 1;
    const low = (index - shift * STEPS) * 2 ** shift;
    return (low + 2 ** shift / 2) / 1000;
  }
}
