import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { CallIds } from '../../../shared/wire/call-id.ts';

const ids = new CallIds('generation');
const id = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const codeOf = (work: () => unknown): string => {
  try {
    return `no error: ${work()}`;
  } catch (error) {
    return error instanceof SluiceError ? error.code : String(error);
  }
};

describe('a call id', () => {
  it('is its number again', () => {
    fc.assert(fc.property(id, (number) => ids.decode(ids.encode(number)) === number));
  });

  it('with one wrong character is none', () => {
    fc.assert(
      fc.property(
        id,
        fc.nat(),
        fc.constantFrom(...'0123456789abcdefghijklmnopqrstuvwxyz'),
        (number, at, wrong) => {
          const text = ids.encode(number);
          const place = at % text.length;
          fc.pre(text[place] !== wrong);
          const typed = text.slice(0, place) + wrong + text.slice(place + 1);
          return codeOf(() => ids.decode(typed)) === 'call_not_found';
        },
      ),
    );
  });

  it('with two characters in the wrong order is none', () => {
    fc.assert(
      fc.property(id, fc.nat(), (number, at) => {
        const text = ids.encode(number);
        const place = at % (text.length - 1);
        fc.pre(text[place] !== text[place + 1]);
        const typed = text.slice(0, place) + text[place + 1] + text[place] + text.slice(place + 2);
        return codeOf(() => ids.decode(typed)) === 'call_not_found';
      }),
    );
  });

  it('of any other text is none', () => {
    fc.assert(fc.property(fc.string(), (text) => codeOf(() => ids.decode(text)) === 'call_not_found'));
  });

  it('of a store that calls were moved out of is looked up', async () => {
    const former = new CallIds('another').encode(7);
    const lineage = { resolve: async ({ id }: { id: number }) => (id === 7 ? 70 : null) };
    expect(await ids.find(former, lineage)).toBe(70);
    expect(await ids.find(ids.encode(7), lineage)).toBe(7);
    await expect(ids.find(new CallIds('another').encode(8), lineage)).rejects.toMatchObject({
      code: 'call_gone',
    });
  });

  it('of another generation is gone', () => {
    expect(codeOf(() => ids.decode(new CallIds('another').encode(7)))).toBe('call_gone');
  });
});
