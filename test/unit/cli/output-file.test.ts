import { linkSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { checkOutput } from '../../../cli/run/output-file.ts';

const directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-output-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const at = (name: string): string => path.join(directory, name);

it('the output is not the input, however its name is written', () => {
  writeFileSync(at('in.parquet'), 'rows');
  symlinkSync('in.parquet', at('link.parquet'));
  linkSync(at('in.parquet'), at('hard.parquet'));
  const relative = path.relative('.', at('in.parquet'));
  for (const output of [`${directory}/./in.parquet`, relative, at('link.parquet'), at('hard.parquet')])
    expect(() => checkOutput(output, at('in.parquet'))).toThrow(`--output ${output} is the input`);
  writeFileSync(at('other.parquet'), 'rows');
  expect(() => checkOutput(at('other.parquet'), at('in.parquet'))).not.toThrow();
  expect(() => checkOutput(at('new.parquet'), at('in.parquet'))).not.toThrow();
});

it('an output that cannot take its name is refused before the first call', () => {
  mkdirSync(at('folder.parquet'));
  expect(() => checkOutput(at('folder.parquet'), at('in.csv'))).toThrow(
    'is a directory; give the name of a file',
  );
  expect(() => checkOutput(at('out.csv'), at('in.csv'))).toThrow('its name must end in one of .parquet');
});
