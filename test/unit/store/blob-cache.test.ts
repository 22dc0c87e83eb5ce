import { expect, it } from 'vitest';
import { BlobCache } from '../../../shared/store/blob-cache.ts';

const MIB = 2 ** 20;

it('lets V8 see the shared memory that it dropped', () => {
  const cache = new BlobCache(16 * MIB);
  const before = process.memoryUsage().arrayBuffers;
  let most = 0;
  for (let key = 1; key <= 800; key += 1) {
    cache.set(key, new Uint8Array(new SharedArrayBuffer(2 * MIB)));
    most = Math.max(most, process.memoryUsage().arrayBuffers - before);
  }
  // 1,600 MiB went through; without a count of them nothing is collected.
  expect(most).toBeLessThan(1000 * MIB);
});

it('is empty and counts from nothing when it was cleared', () => {
  const cache = new BlobCache(100);
  cache.set(1, new Uint8Array(90));
  cache.clear();
  expect(cache.get(1)).toBeUndefined();
  cache.set(2, new Uint8Array(50));
  cache.set(3, new Uint8Array(50));
  expect([cache.get(2)?.length, cache.get(3)?.length]).toEqual([50, 50]);
});
