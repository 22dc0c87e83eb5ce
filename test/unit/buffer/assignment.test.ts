import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { assignedMember } from '../../../services/buffer/assignment.ts';

const names = Array.from({ length: 2000 }, (_, n) => `function-${n}`);
const members = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 40 }), { minLength: 1, maxLength: 8 });

describe('the assignment', () => {
  it('is one of the members, whatever their order, and null of none', () => {
    fc.assert(
      fc.property(members, fc.string(), fc.nat(), (all, name, turn) => {
        const at = turn % all.length;
        const owner = assignedMember(name, all);
        expect(all).toContain(owner);
        expect(assignedMember(name, [...all.slice(at), ...all.slice(0, at)].toReversed())).toBe(owner);
      }),
    );
    expect(assignedMember('f', [])).toBeNull();
  });

  it('spreads: no member has twice its share, none less than half', () => {
    fc.assert(
      fc.property(members, (all) => {
        const counts = new Map(all.map((member) => [member, 0]));
        for (const name of names) {
          const owner = assignedMember(name, all)!;
          counts.set(owner, counts.get(owner)! + 1);
        }
        const share = names.length / all.length;
        for (const count of counts.values()) {
          expect(count).toBeLessThan(share * 2);
          expect(count).toBeGreaterThan(share / 2);
        }
      }),
      { numRuns: 25 },
    );
  });

  it('moves only what the member that goes had, and only to one that comes', () => {
    fc.assert(
      fc.property(members, fc.nat(), (all, pick) => {
        const going = all[pick % all.length]!;
        const rest = all.filter((member) => member !== going);
        for (const name of names) {
          const before = assignedMember(name, all);
          if (before !== going) expect(assignedMember(name, rest)).toBe(before);
        }
      }),
      { numRuns: 25 },
    );
  });
});
