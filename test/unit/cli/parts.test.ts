import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { digestOf, Parts } from '../../../cli/run/parts.ts';
import { rowsToStream } from '../../../shared/arrow/index.ts';

const directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-parts-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const output = (name: string): string => path.join(directory, name);
const BYTES = rowsToStream({ n: [1, 2] });

it('parts are found again by a later run, under the same run id', async () => {
  const first = Parts.open(output('a.parquet'));
  const name = first.name(0, digestOf('f', 'v1', BYTES));
  expect(await first.has(name)).toBe(false);
  await first.write(name, BYTES);
  first.unlock();
  const second = Parts.open(output('a.parquet'));
  expect(second.runId).toBe(first.runId);
  expect(await second.has(name)).toBe(true);
  expect(new Uint8Array(await second.read(name))).toEqual(BYTES);
  expect(await second.has(second.name(0, digestOf('f', 'v2', BYTES)))).toBe(false);
});

it('a part that is torn is not there', async () => {
  const parts = Parts.open(output('b.parquet'));
  writeFileSync(parts.path(parts.name(0, 'digest')), BYTES.subarray(0, BYTES.length - 4));
  parts.unlock();
  const again = Parts.open(output('b.parquet'));
  expect(await again.has(again.name(0, 'digest'))).toBe(false);
});

it('one run at a time writes an output; the lock of a process that is gone holds nobody back', () => {
  const parts = Parts.open(output('c.parquet'));
  writeFileSync(parts.path('lock'), '999999999 1');
  expect(() => Parts.open(output('c.parquet'))).not.toThrow();
  parts.unlock();
});

it('digests tell pieces apart, however they are cut', () => {
  expect(digestOf('ab', 'c')).not.toBe(digestOf('a', 'bc'));
  expect(digestOf('a', new Uint8Array([98]))).toBe(digestOf('a', 'b'));
});
