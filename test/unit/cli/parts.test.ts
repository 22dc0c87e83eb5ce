import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, expect, it } from 'vitest';
import { digestOf, Parts } from '../../../cli/run/parts.ts';
import { rowsToStream } from '../../../shared/arrow/index.ts';
import { ROOT } from '../../support/sluice-process.ts';

const directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-parts-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const output = (name: string): string => path.join(directory, name);
const BYTES = rowsToStream({ n: [1, 2] });

it('parts are found again by a later run, under the same run id', async () => {
  const first = Parts.open(output('a.parquet'));
  const name = first.name(0, digestOf('f', 'v1', BYTES));
  expect(await first.has(name)).toBe(false);
  await first.write(name, BYTES);
  await first.close();
  const second = Parts.open(output('a.parquet'));
  expect(second.runId).toBe(first.runId);
  expect(await second.has(name)).toBe(true);
  expect(new Uint8Array(await second.read(name))).toEqual(BYTES);
  expect(await second.has(second.name(0, digestOf('f', 'v2', BYTES)))).toBe(false);
});

it('a part that is torn is not there', async () => {
  const parts = Parts.open(output('b.parquet'));
  writeFileSync(parts.path(parts.name(0, 'digest')), BYTES.subarray(0, BYTES.length - 4));
  await parts.close();
  const again = Parts.open(output('b.parquet'));
  expect(await again.has(again.name(0, 'digest'))).toBe(false);
});

it('one run at a time writes an output; the lock of a process that is gone holds nobody back', async () => {
  const parts = Parts.open(output('c.parquet'));
  writeFileSync(parts.path('lock'), '999999999 1');
  expect(() => Parts.open(output('c.parquet'))).not.toThrow();
  await parts.close();
});

const TAKE = `
import { Parts } from ${JSON.stringify(path.join(ROOT, 'cli/run/parts.ts'))};
const said = new Set();
let taken = 0;
for (let i = 0; i < 2000; i++)
  try {
    const parts = Parts.open(process.argv[1]);
    taken++;
    await parts.remove();
  } catch (error) {
    said.add(error.message.replace(/^Process \\d+|^Another run/, 'another'));
  }
console.log(JSON.stringify([taken > 0, ...said]));
`;

it('of runs that begin and end at once, each has the output or says who has it', async () => {
  const file = output('race.parquet');
  const run = promisify(execFile);
  const args = ['--input-type=module', '-e', TAKE, file];
  const runs = await Promise.all([1, 2, 3].map(() => run(process.execPath, args)));
  for (const { stdout } of runs) {
    const [hasTaken, ...said] = JSON.parse(stdout) as [boolean, ...string[]];
    expect(hasTaken).toBe(true);
    for (const message of said)
      expect(message).toMatch(/^another is writing .*race\.parquet already; wait for it/);
  }
});

it('a lock that a power cut tore holds nobody back', async () => {
  const parts = Parts.open(output('h.parquet'));
  const lock = parts.path('lock');
  writeFileSync(lock, '');
  expect(() => Parts.open(output('h.parquet'))).toThrow('Another run is writing');
  utimesSync(lock, 0, 0);
  expect(() => Parts.open(output('h.parquet'))).not.toThrow();
  await parts.close();
});

it('a folder that no run made is refused, and kept as it is', () => {
  mkdirSync(output('d.parquet.parts'));
  writeFileSync(path.join(output('d.parquet.parts'), 'notes.txt'), 'mine');
  expect(() => Parts.open(output('d.parquet'))).toThrow(
    /d\.parquet\.parts is there, and not of a run; move it/,
  );
  expect(readdirSync(output('d.parquet.parts'))).toEqual(['notes.txt']);
  writeFileSync(output('e.parquet.parts'), 'mine');
  expect(() => Parts.open(output('e.parquet'))).toThrow('is there, and not of a run');
});

it('the end of a run deletes what is its own', async () => {
  const parts = Parts.open(output('f.parquet'));
  await parts.write(parts.name(0, 'digest'), BYTES);
  writeFileSync(parts.path('output.partial'), '');
  writeFileSync(parts.path('notes.txt'), 'mine');
  await parts.remove();
  expect(readdirSync(parts.directory)).toEqual(['notes.txt']);
});

it('a run that has finished nothing leaves no folder', async () => {
  const parts = Parts.open(output('g.parquet'));
  writeFileSync(parts.path('output.partial'), '');
  await parts.close();
  expect(existsSync(parts.directory)).toBe(false);
  const again = Parts.open(output('g.parquet'));
  await again.write(again.name(0, 'digest'), BYTES);
  await again.close();
  expect(readdirSync(again.directory).sort()).toEqual([again.name(0, 'digest'), 'run-id']);
});

it('digests tell pieces apart, however they are cut', () => {
  expect(digestOf('ab', 'c')).not.toBe(digestOf('a', 'bc'));
  expect(digestOf('a', new Uint8Array([98]))).toBe(digestOf('a', 'b'));
});
