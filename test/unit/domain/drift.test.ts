/** What holds of drift figures whatever the values are; python/tests/test_drift_statistics.py compares them with SciPy's. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Category,
  categorySide,
  driftOf,
  driftReference,
  kolmogorovSmirnov,
  orderedSide,
  stabilityIndex,
} from '../../../shared/domain/drift.ts';

const anyNumbers = fc.array(fc.oneof(fc.double(), fc.integer({ min: -3, max: 3 })), { maxLength: 200 });
const someNumbers = fc.array(fc.double({ noNaN: true }), { minLength: 1, maxLength: 200 });
const anyNulls = fc.nat(20);
const anyCategories = fc.array(
  fc.oneof(fc.string({ maxLength: 2 }), fc.boolean(), fc.integer({ min: 0, max: 40 })),
  { maxLength: 200 },
);
const numbers = (values: readonly number[], nulls = 0) => orderedSide(Float64Array.from(values), nulls);
const sorted = (values: readonly number[]) => numbers(values).sorted;

describe('the drift of numbers', () => {
  it('is nought against the same values in another order, nulls and NaN included', () => {
    fc.assert(
      fc.property(anyNumbers, anyNulls, (values, nulls) => {
        fc.pre(values.length + nulls > 0);
        const { psi, ks } = driftOf(
          driftReference(numbers(values, nulls)),
          numbers(values.toReversed(), nulls),
        );
        expect(psi).toBe(0);
        expect(ks).toBe(values.some((value) => !Number.isNaN(value)) ? 0 : null);
      }),
    );
  });

  it('is never negative or beyond its bounds, and null only where a side is empty', () => {
    fc.assert(
      fc.property(anyNumbers, anyNulls, anyNumbers, anyNulls, (a, aNulls, b, bNulls) => {
        const { psi, ks } = driftOf(driftReference(numbers(a, aNulls)), numbers(b, bNulls));
        if (a.length + aNulls === 0 || b.length + bNulls === 0) expect(psi).toBeNull();
        // All of one side in one bin and all of the other in another one.
        else expect(psi).toSatisfy((value: number) => value >= 0 && value < 2 * Math.log(10_000) + 0.1);
        if (ks !== null) expect(ks).toSatisfy((value: number) => value >= 0 && value <= 1);
      }),
    );
  });

  it('is the same for counts and for twice the counts', () => {
    const a = numbers([1, 2, 3, 4, 5, 6, 7, 8], 2);
    const b = [5, 6, 6, 9];
    const once = driftOf(driftReference(a), numbers(b, 1));
    expect(driftOf(driftReference(a), numbers([...b, ...b], 2))).toEqual(once);
  });

  it('sees a constant that moves, NaN that come and nulls that come', () => {
    const constant = driftReference(numbers(Array(50).fill(5)));
    for (const other of [3, 7, Number.NaN])
      expect(driftOf(constant, numbers(Array(50).fill(other))).psi).toBeGreaterThan(5);
    expect(driftOf(constant, numbers([], 50)).psi).toBeGreaterThan(5);
    expect(driftOf(constant, numbers(Array(50).fill(5))).psi).toBe(0);
  });

  it('has deciles that occur, also between infinities', () => {
    const reference = driftReference(numbers([-Infinity, ...Array(8).fill(0), Infinity]));
    expect(driftOf(reference, numbers([Infinity, -Infinity, ...Array(8).fill(0)]))).toEqual({
      psi: 0,
      ks: 0,
    });
  });
});

describe('the Kolmogorov–Smirnov statistic', () => {
  it('is alike both ways, and for values that keep their order', () => {
    fc.assert(
      fc.property(someNumbers, someNumbers, (a, b) => {
        const ks = kolmogorovSmirnov(sorted(a), sorted(b));
        expect(kolmogorovSmirnov(sorted(b), sorted(a))).toBe(ks);
        const negated = (values: readonly number[]) => sorted(values.map((value) => -value));
        expect(kolmogorovSmirnov(negated(a), negated(b))).toBeCloseTo(ks!, 12);
      }),
    );
  });

  it('is one for values apart', () => {
    expect(kolmogorovSmirnov(sorted([1, 2]), sorted([3]))).toBe(1);
    expect(kolmogorovSmirnov(sorted([1, 2]), sorted([]))).toBeNull();
  });
});

describe('the population stability index', () => {
  it('is alike both ways', () => {
    const histograms = fc
      .integer({ min: 1, max: 12 })
      .chain((bins) =>
        fc.tuple(...[0, 1].map(() => fc.array(fc.nat(1000), { minLength: bins, maxLength: bins }))),
      );
    fc.assert(
      fc.property(histograms, ([a, b]) => {
        const index = stabilityIndex(a!, b!);
        if (index === null) expect(stabilityIndex(b!, a!)).toBeNull();
        else expect(stabilityIndex(b!, a!)).toBeCloseTo(index, 9);
      }),
    );
  });
});

describe('the drift of texts and booleans', () => {
  const categories = (values: readonly Category[], nulls = 0) => categorySide(values, nulls);

  it('is nought against the same values in another order, and has no KS', () => {
    fc.assert(
      fc.property(anyCategories, anyNulls, (values, nulls) => {
        fc.pre(values.length + nulls > 0);
        const reference = driftReference(categories(values, nulls));
        expect(driftOf(reference, categories(values.toReversed(), nulls))).toEqual({ psi: 0, ks: null });
      }),
    );
  });

  it('keeps the twenty most frequent values apart, and all others together', () => {
    const common = Array.from({ length: 20 }, (_, i) => [`c${i}`, `c${i}`]).flat();
    const reference = driftReference(categories([...common, 'rare', 'seldom']));
    expect(driftOf(reference, categories([...common, 'rarer', 'new'])).psi).toBe(0);
    expect(driftOf(reference, categories(['rarer', 'new'])).psi).toBeGreaterThan(1);
  });

  it('is not compared with numbers, nor with nothing', () => {
    const reference = driftReference(categories(['a']));
    expect(driftOf(reference, numbers([1]))).toEqual({ psi: null, ks: null });
    expect(driftOf(driftReference(numbers([1])), categories(['a']))).toEqual({ psi: null, ks: null });
    expect(driftOf(reference, categories([]))).toEqual({ psi: null, ks: null });
  });
});
