import v8 from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { IdMap } from '../../../shared/runtime/id-map.ts';
import { Slab } from '../../../shared/runtime/slab.ts';

/** Around page ends, far apart, and above 2^31. */
const id = fc.oneof(fc.nat(100), fc.constantFrom(31, 32, 63, 64, 2 ** 31, 2 ** 31 + 1, 2 ** 50));
const step = fc.oneof(
  fc.record({ verb: fc.constantFrom('set', 'delete'), id }),
  fc.record({ verb: fc.constant('clear'), id: fc.constant(0) }),
);

it('holds what a map would', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const [map, model] = [new IdMap<number | null>(), new Map<number, number | null>()];
      for (const [index, { verb, id }] of steps.entries()) {
        const value = index % 3 === 0 ? null : index;
        if (verb === 'set') {
          map.set(id, value);
          model.set(id, value);
        } else if (verb === 'delete') expect(map.delete(id)).toBe(model.delete(id));
        else {
          map.clear();
          model.clear();
        }
        expect([map.size, map.get(id), map.has(id)]).toEqual([model.size, model.get(id), model.has(id)]);
      }
      const byId = (entries: Iterable<[number, number | null]>) => [...entries].sort(([a], [b]) => a - b);
      expect(byId(map)).toEqual(byId(model));
    }),
  );
});

it('tells ids that come in order in that order, and none that went meanwhile', () => {
  const map = new IdMap<string>();
  for (let id = 1; id <= 200; id += 1) map.set(id, `value ${id}`);
  const told: number[] = [];
  for (const id of map.keys()) {
    told.push(id);
    map.delete(id + 1);
    if (id === 101) for (let gone = 110; gone <= 180; gone += 1) map.delete(gone);
  }
  expect(told).toEqual([...told].sort((a, b) => a - b));
  expect(told).toHaveLength([...map.values()].length);
  expect([told[0], told.at(-1), map.has(2), map.has(150)]).toEqual([1, 199, false, false]);
});

it('gives a slab what is in it, and the keys of what went to others', () => {
  const slab = new Slab<string>();
  const [a, b] = [slab.insert('a'), slab.insert('b')];
  slab.remove(a);
  expect([slab.size, [...slab]]).toEqual([1, ['b']]);
  expect(slab.insert('c')).toBe(a);
  expect([slab.size, [...slab].sort()]).toEqual([2, ['b', 'c']]);
  for (const one of slab) if (one === 'c') slab.remove(a);
  slab.remove(b);
  expect([slab.size, [...slab]]).toEqual([0, []]);
});

/** Bytes that minor collections move to the old generation while so many values come and go, of which 500 are there at a time. */
const promotedBytes = (
  insert: (at: number, value: object) => unknown,
  remove: (at: number) => unknown,
): number => {
  v8.setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as (how?: { type: 'minor' }) => void;
  const oldBytes = () =>
    v8.getHeapSpaceStatistics().find(({ space_name }) => space_name === 'old_space')!.space_used_size;
  const round = (from: number): void => {
    for (let at = from; at < from + 20_000; at += 1) {
      insert(at, { at, text: `a call ${at}`, more: [at, at, at, at] });
      if (at >= 500) remove(at - 500);
    }
  };
  round(0);
  collect();
  collect();
  const before = oldBytes();
  for (let n = 1; n <= 20; n += 1) {
    round(n * 20_000);
    collect({ type: 'minor' });
    collect({ type: 'minor' });
  }
  return oldBytes() - before;
};

const shares = (): { idMap: number; slab: number } => {
  const [map, idMap, slab] = [new Map<number, object>(), new IdMap<object>(), new Slab<object>()];
  const keys = new Int32Array(500);
  const insertIntoSlab = (at: number, value: object): void => {
    if (at >= 500) slab.remove(keys[at % 500]!);
    keys[at % 500] = slab.insert(value);
  };
  const ofMap = promotedBytes(map.set.bind(map), map.delete.bind(map));
  const ofIdMap = promotedBytes(idMap.set.bind(idMap), idMap.delete.bind(idMap));
  return { idMap: ofIdMap / ofMap, slab: promotedBytes(insertIntoSlab, () => undefined) / ofMap };
};

it('lets the collector have what went at once, as a map does not', async () => {
  // The first time some of it is that of the code itself, and on a busy machine V8 promotes whatever there is now and then.
  await expect.poll(shares, { timeout: 20_000, interval: 1 }).toSatisfy(({ idMap, slab }) => {
    return idMap < 0.5 && slab < 0.5;
  });
});
