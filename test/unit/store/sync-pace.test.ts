import { expect, it } from 'vitest';
import { SyncPace } from '../../../shared/store/embedded/sync-pace.ts';

/** Syncs that take so many milliseconds, one each millisecond; which of them were made in place. */
const inPlace = (pace: SyncPace, from: number, tookMs: readonly number[]): number => {
  let made = 0;
  for (const [index, ms] of tookMs.entries()) {
    if (!pace.isQuick(from + index)) continue;
    pace.took(ms, from + index);
    made += 1;
  }
  return made;
};
const times = (count: number, ms: number): number[] => new Array(count).fill(ms);

it('makes syncs in place on a quick disk, whatever a single one takes', () => {
  const slowOnes = times(1000, 0.2).map((ms, index) => (index % 100 === 50 ? 30 : ms));
  expect(inPlace(new SyncPace(), 0, slowOnes)).toBe(1000);
});

it('leaves a slow disk to the other thread, and looks once a second', () => {
  const pace = new SyncPace();
  expect(inPlace(pace, 0, times(5000, 10))).toBeLessThan(10);
  expect(inPlace(pace, 5000, times(3000, 10))).toBe(3);
  expect(inPlace(pace, 8000, times(1000, 0.2))).toBeLessThan(1000);
  // That look found it quick.
  expect(inPlace(pace, 9000, times(1000, 0.2))).toBe(1000);
});
