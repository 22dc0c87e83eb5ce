import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlobCache } from '../../../shared/store/blob-cache.ts';
import { DueHeap } from '../../../shared/store/embedded/due-heap.ts';
import { packNumbers, unpackNumbers } from '../../../shared/store/embedded/packing.ts';
import { packExtra, parseExtra } from '../../../shared/store/extra.ts';

describe('packed numbers', () => {
  it('come back as they went, up to the largest safe integer', () => {
    const numbers = fc.array(fc.oneof(fc.nat(300), fc.maxSafeNat(), fc.nat(2 ** 31 - 1)));
    fc.assert(
      fc.property(numbers, (values) => {
        expect(unpackNumbers(packNumbers(values))).toEqual(values);
      }),
    );
    const edges = [0, 127, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 32, Number.MAX_SAFE_INTEGER];
    expect(unpackNumbers(packNumbers(edges))).toEqual(edges);
  });

  it('take one byte for a small number', () => {
    expect(packNumbers([1, 2, 127])).toHaveLength(3);
  });
});

describe('the heap of due things', () => {
  it('gives them in the order of their times', () => {
    fc.assert(
      fc.property(fc.array(fc.integer()), (times) => {
        const heap = new DueHeap<number>();
        for (const at of times) heap.push(at, at);
        const seen: number[] = [];
        for (let top = heap.peek(); top !== undefined; top = heap.peek()) {
          seen.push(top.item);
          heap.pop();
        }
        expect(seen).toEqual(times.toSorted((a, b) => a - b));
      }),
    );
  });
});

describe('the blob cache', () => {
  it('drops what was used longest ago', () => {
    const cache = new BlobCache(30);
    for (const key of [1, 2, 3]) cache.set(key, new Uint8Array(10));
    cache.get(1);
    cache.set(4, new Uint8Array(10));
    expect([1, 2, 3, 4].filter((key) => cache.get(key) !== undefined)).toEqual([1, 3, 4]);
  });

  it('keeps one blob whatever its size, and no second one beside it', () => {
    const cache = new BlobCache(30);
    cache.set(1, new Uint8Array(100));
    expect(cache.get(1)).toHaveLength(100);
    cache.set(2, new Uint8Array(1));
    expect(cache.get(1)).toBeUndefined();
  });
});

describe('the rarely used fields of a call', () => {
  it('take no room when they have their defaults', () => {
    const defaults = { lane: '', priority: 0, schemaKey: '', metadata: {}, traceparent: null };
    expect(packExtra(defaults)).toBeNull();
    expect(parseExtra(null)).toEqual(defaults);
    const given = { ...defaults, priority: -3, metadata: { a: 'b' }, traceparent: '00-1' };
    expect(parseExtra(packExtra(given))).toEqual(given);
  });
});
