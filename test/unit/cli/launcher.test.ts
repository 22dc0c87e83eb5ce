/** What starts the command: it keeps what Node compiled, and goes without where it cannot. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { eventually, ROOT, SluiceServer, temporaryDirectory } from '../../support/sluice-process.ts';

const launch = (home: string): string => {
  const { NODE_COMPILE_CACHE: _, ...env } = process.env;
  const launcher = path.join(ROOT, 'cli/bin/sluice.mjs');
  return execFileSync(process.execPath, [launcher, '--version'], {
    env: { ...env, HOME: home },
    encoding: 'utf8',
  });
};

it('keeps what Node compiled below the home directory', () => {
  const home = temporaryDirectory();
  try {
    expect(launch(home)).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(readdirSync(path.join(home, '.cache/sluice/compiled')).length).toBeGreaterThan(0);
  } finally {
    rmSync(home, { recursive: true });
  }
});

it('makes no home directory where there is none', () => {
  const home = path.join(temporaryDirectory(), 'gone');
  expect(launch(home)).toMatch(/^\d+\.\d+\.\d+\n$/);
  expect(existsSync(home)).toBe(false);
  rmSync(path.dirname(home), { recursive: true });
});

it('has what a server compiled kept while it runs: one that is killed keeps nothing more', async () => {
  const folder = temporaryDirectory();
  const server = await SluiceServer.start({ env: { NODE_COMPILE_CACHE: folder } });
  try {
    const kept = () => readdirSync(folder, { recursive: true }).length;
    // The main thread, that of the store, and one that listens: some hundred modules.
    await eventually('the modules are kept', async () => kept() > 300);
  } finally {
    await server.dispose();
    rmSync(folder, { recursive: true });
  }
});
