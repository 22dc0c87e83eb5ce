import { describe, expect, it } from 'vitest';
import { pathPart } from '../../../sdk/path-part.ts';

describe('a part of a path', () => {
  it('is one part, whatever the name', () => {
    const names = ['a b', 'a/b', '../x', '%2e', '...', 'ü', '?x#y'];
    for (const name of names) {
      const { pathname } = new URL(`http://x/v1/models/${pathPart(name)}/versions`);
      expect(pathname.split('/'), name).toHaveLength(5);
      expect(decodeURIComponent(pathname.split('/')[3]!)).toBe(name);
    }
  });

  it.each(['', '.', '..'])('is not %j, which is a step', (name) => {
    expect(() => pathPart(name)).toThrow(RangeError);
  });
});
