import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Slice } from '../../../shared/domain/call.ts';
import { cut, dropRows, halves, rowByRow, rowsOf, splitAt } from '../../../shared/domain/slices.ts';

/** Every row as `call:row`, in order. */
const rows = (slices: readonly Slice[]): string[] =>
  slices.flatMap(({ callId, from, count }) =>
    Array.from({ length: count }, (_, at) => `${callId}:${from + at}`),
  );

/** Slices of distinct calls, as a sealed batch has them. */
const anySlices = fc
  .array(fc.record({ from: fc.nat(20), count: fc.integer({ min: 1, max: 9 }) }), { maxLength: 8 })
  .map((runs): Slice[] => runs.map((run, at) => ({ callId: at + 1, ...run })));

describe('slices', () => {
  it('count their rows', () => {
    fc.assert(
      fc.property(anySlices, (slices) => {
        expect(rowsOf(slices)).toBe(rows(slices).length);
      }),
    );
  });

  it('split without losing, doubling or moving a row', () => {
    fc.assert(
      fc.property(anySlices, fc.nat(80), (slices, at) => {
        const [head, tail] = splitAt(slices, at);
        expect(rows([...head, ...tail])).toEqual(rows(slices));
        expect(rowsOf(head)).toBe(Math.min(at, rowsOf(slices)));
        expect([...head, ...tail].every(({ count }) => count > 0)).toBe(true);
      }),
    );
  });

  it('cut any range', () => {
    fc.assert(
      fc.property(anySlices, fc.nat(60), fc.nat(60), (slices, from, count) => {
        expect(rows(cut(slices, from, count))).toEqual(rows(slices).slice(from, from + count));
      }),
    );
  });

  it('halve into parts that differ by one row at most', () => {
    fc.assert(
      fc.property(anySlices, (slices) => {
        const [head, tail] = halves(slices);
        expect(rows([...head, ...tail])).toEqual(rows(slices));
        expect(rowsOf(head) - rowsOf(tail)).toBeGreaterThanOrEqual(0);
        expect(rowsOf(head) - rowsOf(tail)).toBeLessThanOrEqual(1);
      }),
    );
  });

  it('come apart into single rows', () => {
    fc.assert(
      fc.property(anySlices, (slices) => {
        const single = rowByRow(slices);
        expect(single.every(({ count }) => count === 1)).toBe(true);
        expect(rows(single)).toEqual(rows(slices));
      }),
    );
  });

  it('drop named rows and keep the order of the others', () => {
    fc.assert(
      fc.property(anySlices, anySlices, (slices, dropped) => {
        const gone = new Set(rows(dropped));
        expect(rows(dropRows(slices, dropped))).toEqual(rows(slices).filter((row) => !gone.has(row)));
      }),
    );
  });
});
