import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  batchIdOf,
  bucketOf,
  callIdOf,
  FUNCTIONS_MAX,
  functionOfId,
  functionOfVersion,
  isFunctionNumber,
  Layout,
  SERIALS,
  serialOfId,
  serialOfVersion,
  versionIdOf,
} from '../../../shared/store/redis/layout.ts';

const fns = fc.integer({ min: 1, max: FUNCTIONS_MAX });

describe('ids', () => {
  it('name their function, and stay safe integers', () => {
    fc.assert(
      fc.property(fns, fc.integer({ min: 0, max: SERIALS - 1 }), (fn, n) => {
        const id = callIdOf(fn, n);
        expect(Number.isSafeInteger(id)).toBe(true);
        expect([functionOfId(id), serialOfId(id)]).toEqual([fn, n]);
        expect(batchIdOf(fn, n)).toBe(id);
      }),
    );
    fc.assert(
      fc.property(fns, fc.integer({ min: 0, max: 4095 }), (fn, n) => {
        const id = versionIdOf(fn, n);
        expect([functionOfVersion(id), serialOfVersion(id)]).toEqual([fn, n]);
      }),
    );
  });

  it('order the calls of one function by their numbers', () => {
    expect(callIdOf(1, SERIALS - 1)).toBeLessThan(callIdOf(2, 0));
    expect(callIdOf(3, 7)).toBeLessThan(callIdOf(3, 8));
  });

  it('are refused beyond their width', () => {
    const wrong = [[0, 1] as const, [FUNCTIONS_MAX + 1, 1] as const, [1, SERIALS] as const, [1, -1] as const];
    for (const [fn, n] of wrong) expect(() => callIdOf(fn, n)).toThrow(/bug/);
    expect(() => versionIdOf(1, 4096)).toThrow(/bug/);
  });

  it('of outside may name no function', () => {
    expect(isFunctionNumber(functionOfId(77))).toBe(false);
    expect(isFunctionNumber(functionOfId(Number.MAX_SAFE_INTEGER))).toBe(false);
    expect(isFunctionNumber(functionOfId(callIdOf(FUNCTIONS_MAX, 1)))).toBe(true);
  });

  it('share a bucket with 127 neighbours', () => {
    expect([0, 127, 128, 255, 256].map(bucketOf)).toEqual([0, 0, 1, 1, 2]);
  });
});

describe('keys', () => {
  const layout = new Layout('sluice');

  it('of one function share its hash tag', () => {
    const keys = [layout.key(12, 'waiting'), layout.key(12, 'calls', 7), layout.channel(12, 'ready')];
    expect(keys).toEqual(['{sluice:12}:waiting', '{sluice:12}:calls:7', '{sluice:12}:to-ready']);
    const { prefix, name } = layout.bull(versionIdOf(12, 3));
    expect(`${prefix}:${name}`).toBe(`{sluice:12}:bull:v${12 * 4096 + 3}`);
  });

  it('of no function share another', () => {
    expect(layout.store('generation')).toBe('{sluice}:generation');
  });
});
