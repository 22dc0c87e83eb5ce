/** Who gets a place, and who gives one. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nextOf, type Place, placeToGive, STALL_MS, type Waiting } from '../../../services/batches/turns.ts';

const place = (id: string, owner: string, progressAt = 0): Place => ({ id, owner, progressAt });
const waits = (id: string, owner: string, createdAt = 0, turnAt: number | null = null): Waiting => ({
  ...{ id, owner, createdAt, turnAt },
});

describe('the next batch', () => {
  it('is of the key with the fewest places, then one without a turn, then the first', () => {
    const waiting = [waits('a', '1', 1), waits('b', '2', 9, 3), waits('c', '2', 8), waits('d', '2', 7)];
    expect(nextOf(waiting, [place('x', '1')]).id).toBe('d');
    expect(nextOf(waiting, [place('x', '2')]).id).toBe('a');
    expect(nextOf([waits('late', '1', 0, 9), waits('soon', '1', 5, 8)], []).id).toBe('soon');
  });
});

describe('a place', () => {
  const eight = Array.from({ length: 8 }, (_, i) => place(`p${i}`, '1', 100 - i));

  it('is given by the run that stalled, or by a key that has two more than one that waits', () => {
    expect(placeToGive(eight, [waits('a', '1')], 100)).toBeNull();
    expect(placeToGive(eight, [waits('a', '1')], 93 + STALL_MS)?.id).toBe('p7');
    expect(placeToGive(eight, [waits('a', '1'), waits('b', '2')], 100)?.id).toBe('p7');
    expect(placeToGive(eight, [], 93 + STALL_MS)).toBeNull();
    expect(placeToGive([], [waits('a', '1')], 0)).toBeNull();
  });

  it('goes round until all keys have as many, and no further', () => {
    const owners = fc.array(fc.constantFrom('1', '2', '3', '4'), { minLength: 9, maxLength: 40 });
    fc.assert(
      fc.property(owners, (all) => {
        let waiting = all.map((owner, i) => waits(`w${i}`, owner, i));
        const places: Place[] = [];
        for (let step = 0; ; step += 1) {
          expect(step).toBeLessThan(100);
          const given = places.length < 8 ? null : placeToGive(places, waiting, 0);
          if (places.length === 8 && given === null) break;
          if (given !== null) {
            places.splice(places.indexOf(given), 1);
            waiting = [...waiting, waits(given.id, given.owner, 0, step)];
          }
          const next = nextOf(waiting, places);
          waiting = waiting.filter((one) => one !== next);
          places.push(place(next.id, next.owner));
        }
        const held = (owner: string): number => places.filter((one) => one.owner === owner).length;
        const most = Math.max(...places.map(({ owner }) => held(owner)));
        for (const { owner } of waiting) expect(held(owner)).toBeGreaterThanOrEqual(most - 1);
      }),
    );
  });
});
