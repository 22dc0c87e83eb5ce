import { describe, expect, it } from 'vitest';
import { PrefetchDepth } from '../../../workers/prefetch-depth.ts';

const MIB = 2 ** 20;

const after = (...handlerMs: number[]): number => {
  const depth = new PrefetchDepth();
  for (const ms of handlerMs) depth.observe(ms);
  return depth.batches;
};

describe('PrefetchDepth', () => {
  it('is one batch until a handler time is known, and for handlers that take long', () => {
    expect(after()).toBe(1);
    expect(after(20, 20, 20)).toBe(1);
  });

  it('covers the way through the store for fast handlers, within a limit', () => {
    expect(after(4)).toBe(3);
    expect(after(0.5)).toBe(20);
    expect(after(0)).toBe(32);
  });

  it('takes no more bytes ahead than one large batch has', () => {
    const depth = new PrefetchDepth();
    depth.observe(0);
    const taking = (bytes: number): number => {
      depth.take(bytes);
      return depth.batches;
    };
    expect(taking(1000)).toBe(32);
    expect(taking(64 * MIB)).toBe(1);
    for (let batch = 0; batch < 20; batch += 1) taking(8 * MIB);
    expect(taking(8 * MIB)).toBe(7);
    for (let batch = 0; batch < 40; batch += 1) taking(1000);
    expect(depth.batches).toBe(32);
    expect(taking(200 * MIB)).toBe(1);
  });

  it('follows a handler that becomes slow within a few batches', () => {
    expect(after(0.5, ...Array<number>(12).fill(30))).toBe(1);
  });
});
