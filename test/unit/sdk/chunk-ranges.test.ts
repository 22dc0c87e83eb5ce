import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { chunkRanges } from '../../../sdk/chunked-call.ts';

const contiguous = (rows: number, ranges: readonly { from: number; to: number }[]): void => {
  expect(ranges.map(({ from }) => from)).toEqual([0, ...ranges.map(({ to }) => to)].slice(0, ranges.length));
  expect(ranges.at(-1)?.to ?? 0).toBe(rows);
};

describe('the chunks of a call', () => {
  it('of a size cover all rows, and only the last is smaller', () => {
    fc.assert(
      fc.property(fc.nat(5000), fc.integer({ min: 1, max: 700 }), (rows, chunkSize) => {
        const ranges = chunkRanges(rows, { chunkSize });
        contiguous(rows, ranges);
        expect(ranges.slice(0, -1).every(({ from, to }) => to - from === chunkSize)).toBe(true);
        expect(ranges.every(({ from, to }) => to > from)).toBe(true);
      }),
    );
  });

  it('of a number are exactly that many, differ by one row at most, and never outnumber the rows', () => {
    fc.assert(
      fc.property(fc.nat(5000), fc.integer({ min: 1, max: 700 }), (rows, numChunks) => {
        const ranges = chunkRanges(rows, { numChunks });
        contiguous(rows, ranges);
        expect(ranges.length).toBe(Math.min(rows, numChunks));
        const sizes = ranges.map(({ from, to }) => to - from);
        if (sizes.length > 0) expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
      }),
    );
  });

  it('need exactly one of the two options', () => {
    expect(() => chunkRanges(3, {})).toThrow('Neither chunkSize nor numChunks is given');
    expect(() => chunkRanges(3, { chunkSize: 1, numChunks: 1 })).toThrow(
      'Both chunkSize and numChunks are given',
    );
    expect(() => chunkRanges(3, { chunkSize: 0 })).toThrow('chunkSize is 0');
    expect(() => chunkRanges(3, { numChunks: 1.5 })).toThrow('numChunks is 1.5');
  });
});
