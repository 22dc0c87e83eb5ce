/** The package as it is published: built, put where Node finds it, imported and type checked from outside. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';

const root = path.resolve(import.meta.dirname, '../../..');
const consumer = mkdtempSync(path.join(os.tmpdir(), 'sluice-consumer-'));
const node = path.join(root, 'node_modules/.bin/node');
const run = (script: string, ...args: string[]): string =>
  execFileSync(node, [script, ...args], { cwd: consumer, encoding: 'utf8' });

beforeAll(() => {
  execFileSync(node, [path.join(root, 'sdk/build.ts')]);
  const modules = path.join(consumer, 'node_modules');
  mkdirSync(path.join(modules, '@sluice'), { recursive: true });
  cpSync(path.join(root, 'sdk/dist'), path.join(modules, '@sluice/sdk'), { recursive: true });
  for (const name of ['@uwdata', 'flatbuffers', '@types', 'undici-types'])
    symlinkSync(path.join(root, 'node_modules', name), path.join(modules, name));
  writeFileSync(path.join(consumer, 'package.json'), '{"type":"module"}');
});
afterAll(() => rmSync(consumer, { recursive: true, force: true }));

it('runs without the repository', () => {
  const code = `
    import { defineFunction, Sluice, t } from '@sluice/sdk';
    const f = defineFunction({ name: 'f', inputs: { text: t.string() }, output: t.int32() }, ({ text }) => text.map((s) => s.length));
    console.log(f({ text: ['abc'] }), new Sluice({ url: 'http://localhost:1/' }).url);`;
  writeFileSync(path.join(consumer, 'run.mjs'), code);
  expect(run('run.mjs')).toBe('[ 3 ] http://localhost:1\n');
});

it('has declarations that hold its promises', () => {
  const code = `
    import { type CallJson, Sluice } from '@sluice/sdk';
    const handle = await new Sluice().function<{ text: string }, number[]>('f').deferBatch([{ text: 'a' }]);
    const rows: number[][] = await handle.get();
    const status: CallJson['status'] = (await handle.status()).status;
    // @ts-expect-error the inputs are typed
    await new Sluice().function<{ text: string }, number[]>('f').deferBatch([{ txt: 'a' }]);
    console.log(rows, status);`;
  writeFileSync(path.join(consumer, 'types.ts'), code);
  const tsc = path.join(root, 'node_modules/typescript/bin/tsc');
  const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022', '--types', 'node'];
  expect(run(tsc, ...options, 'types.ts')).toBe('');
});
