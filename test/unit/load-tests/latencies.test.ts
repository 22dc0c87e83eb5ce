import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Latencies } from '../../../load-tests/generator/latencies.ts';

describe('Latencies', () => {
  test('a percentile is within one per cent of the sorted list', () => {
    const microseconds = fc.array(fc.integer({ min: 1, max: 2 ** 31 - 1 }), { minLength: 1, maxLength: 300 });
    fc.assert(
      fc.property(microseconds, fc.constantFrom(0.01, 0.5, 0.9, 0.99, 1), (values, share) => {
        const latencies = new Latencies();
        for (const value of values) latencies.record(value);
        const sorted = values.toSorted((a, b) => a - b);
        const exactMs = sorted[Math.max(1, Math.ceil(values.length * share)) - 1]! / 1000;
        expect(Math.abs(latencies.percentileMs(share) - exactMs)).toBeLessThanOrEqual(
          0.0006 + exactMs * 0.01,
        );
      }),
    );
  });

  test('added counts are as if recorded in one', () => {
    const [a, b] = [new Latencies(), new Latencies()];
    a.record(100);
    b.record(900_000);
    a.add(new Latencies(Array.from(b.counts)));
    expect(a.percentileMs(0.5)).toBeCloseTo(0.1, 2);
    expect(a.percentileMs(1)).toBeCloseTo(900, -1);
  });

  test('without requests there is no percentile', () => {
    expect(new Latencies().percentileMs(0.5)).toBeNaN();
  });
});
