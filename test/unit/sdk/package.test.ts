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
    const client = new Sluice({ url: 'http://localhost:1/' });
    console.log(f({ text: ['abc'] }), client.url, typeof client.models.register, typeof client.scalingGroups.deploy);`;
  writeFileSync(path.join(consumer, 'run.mjs'), code);
  expect(run('run.mjs')).toBe('[ 3 ] http://localhost:1 function function\n');
});

it('has declarations that hold its promises', () => {
  const code = `
    import { type CallJson, type ScalingGroupJson, Sluice } from '@sluice/sdk';
    const handle = await new Sluice().function<{ text: string }, number[]>('f').deferBatch([{ text: 'a' }]);
    const rows: number[][] = await handle.get();
    const status: CallJson['status'] = (await handle.status()).status;
    // @ts-expect-error the inputs are typed
    await new Sluice().function<{ text: string }, number[]>('f').deferBatch([{ txt: 'a' }]);
    const version: number = (await new Sluice().models.version('m', 'production')).version;
    const group: ScalingGroupJson = await new Sluice().scalingGroups.deploy('g', { model: 'm', version });
    // @ts-expect-error the members are known
    await new Sluice().scalingGroups.scale('g', { replicas: 1 });
    console.log(rows, status, group.state);`;
  writeFileSync(path.join(consumer, 'types.ts'), code);
  const tsc = path.join(root, 'node_modules/typescript/bin/tsc');
  const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2022', '--types', 'node'];
  expect(run(tsc, ...options, 'types.ts')).toBe('');
});
