import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { errorsPage } from '../../../scripts/errors-page.ts';
import { CATALOGUE } from '../../../shared/errors/catalogue.ts';

describe('the error catalogue', () => {
  it('is what docs/ERRORS.md says', () => {
    expect(readFileSync(new URL('../../../docs/ERRORS.md', import.meta.url), 'utf8')).toBe(errorsPage());
  });

  it('gives every code a status, a title and a way out', () => {
    for (const [code, entry] of Object.entries(CATALOGUE)) {
      expect(code).toMatch(/^[a-z]+(_[a-z]+)*$/);
      expect(entry.status).toBeGreaterThanOrEqual(400);
      expect(entry.title).not.toMatch(/\.$/);
      expect(entry.fix).toMatch(/\.$/);
    }
  });
});
