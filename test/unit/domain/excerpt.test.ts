import { expect, it } from 'vitest';
import { excerpt } from '../../../shared/domain/excerpt.ts';

it('keeps the beginning and the end of a long text, within the limit', () => {
  expect(excerpt('x'.repeat(100), 100)).toBe('x'.repeat(100));
  const text = `the update was rolled back: ${'trace\n'.repeat(100)}ValueError: no weights`;
  const short = excerpt(text, 200);
  expect(short.length).toBeLessThanOrEqual(200);
  expect(short).toMatch(/^the update was rolled back.*\(490 characters left out\).*ValueError: no weights$/s);
  expect(excerpt(short, 200)).toBe(short);
});

it('cuts no character in two', () => {
  const short = excerpt('\u{1f600}'.repeat(100), 101);
  expect(short.isWellFormed()).toBe(true);
});
