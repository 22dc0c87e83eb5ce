import fc from 'fast-check';
import { expect, test } from 'vitest';
import { makePreciseWall } from '../../../shared/runtime/precise-wall.ts';

/** Two clocks over the same time: one starts anywhere and counts on, the other is cut to whole milliseconds and may be set. */
const makeClocks = (start: number) => {
  const clocks = { elapsed: 0, epoch: start };
  const precise = makePreciseWall(
    () => Math.floor(clocks.epoch + clocks.elapsed),
    () => 17.3 + clocks.elapsed,
  );
  return { clocks, precise };
};

test('is within the millisecond that the wall clock shows, also when that is set', () => {
  const step = fc.record({
    passed: fc.double({ min: 0, max: 50, noNaN: true }),
    set: fc.integer({ min: -5000, max: 5000 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 50 }), (steps) => {
      const { clocks, precise } = makeClocks(1_700_000_000_000.4);
      for (const { passed, set } of steps) {
        clocks.elapsed += passed;
        if (Math.abs(set) > 4000) clocks.epoch += set;
        expect(Math.floor(precise())).toBe(Math.floor(clocks.epoch + clocks.elapsed));
      }
    }),
  );
});

test('has the fraction once it has seen a millisecond begin', () => {
  const { clocks, precise } = makeClocks(1_700_000_000_000.4);
  for (let i = 0; i < 200; i++) {
    clocks.elapsed += 0.01;
    precise();
  }
  clocks.elapsed += 123.456;
  expect(precise()).toBeCloseTo(clocks.epoch + clocks.elapsed, 1);
});
