import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { packageRequirement } from '../../../cli/deploy/python-package.ts';

describe('what pip is told to install', () => {
  it('is the absolute path of the package, with the extra', () => {
    const [, directory = '', extra] = /^'(\/.+\/python)(\[sql\])'$/.exec(packageRequirement('[sql]')) ?? [];
    expect(existsSync(`${directory}/pyproject.toml`)).toBe(true);
    expect(extra).toBe('[sql]');
    expect(packageRequirement()).toBe(`'${directory}'`);
  });
});
