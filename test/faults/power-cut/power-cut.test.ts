/**
 * A kill leaves the page cache, so it proves nothing about fsync. Here the writes of a store under load are logged
 * below it, the process is killed, and from the log come the disks that a power cut at random points may leave.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Random } from '../../sim/random.ts';
import { SEED } from '../../support/seed.ts';
import { buildImage } from './disk-image.ts';
import { inspect } from './verdict.ts';
import { type LogRecord, readLog } from './write-log.ts';

const isLong = process.env.SLUICE_TEST_LONG === '1';
const RUNS = isLong ? 12 : 2;
const CUTS = isLong ? 40 : 6;
const CALLS = isLong ? 4000 : 1200;

const here = import.meta.dirname;
const workspace = mkdtempSync(path.join(tmpdir(), 'sluice-power-'));
const shim = path.join(workspace, 'shim.so');
const compiled = spawnSync('cc', [
  '-O1',
  '-shared',
  '-fPIC',
  '-o',
  shim,
  path.join(here, 'shim.c'),
  '-lpthread',
]);
const hasShim = compiled.status === 0 && process.platform === 'linux';
if (!hasShim) {
  const why = `power cuts, a failed fsync and a full disk are not tested: they need Linux and a C compiler as \`cc\` (${compiled.error?.message ?? compiled.stderr})`;
  if (process.env.CI === 'true') throw new Error(why);
  console.warn(why);
}

type Home = {
  readonly root: string;
  readonly data: string;
  readonly facts: string;
  readonly log: string;
  readonly full: string;
};
let homes = 0;
const newHome = (): Home => {
  homes += 1;
  const root = path.join(workspace, String(homes));
  mkdirSync(path.join(root, 'data'), { recursive: true });
  const under = (name: string): string => path.join(root, name);
  return { root, data: under('data'), facts: under('facts'), log: under('log'), full: under('full') };
};

const start = (
  home: Home,
  script: string,
  args: readonly string[],
  env: Record<string, string> = {},
): ChildProcess =>
  spawn(process.execPath, [path.join(here, script), home.data, home.facts, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      LD_PRELOAD: shim,
      POWER_CUT_DIRECTORY: home.data,
      POWER_CUT_LOG: home.log,
      POWER_CUT_FACTS: home.facts,
      POWER_CUT_FULL: home.full,
      ...env,
    },
  });

const textOf = async (stream: NodeJS.ReadableStream): Promise<string> => {
  let text = '';
  for await (const chunk of stream) text += chunk;
  return text;
};

/** Runs the workload and kills it when it has made a random share of its calls. */
const runAndKill = async (home: Home, durability: string, random: Random, seed: number): Promise<void> => {
  const child = start(home, 'workload.ts', [durability, String(CALLS), String(seed)]);
  const errors = textOf(child.stderr!);
  const exited = once(child, 'exit');
  const killAt = Math.floor((0.3 + 0.7 * random.next()) * CALLS * 60);
  const watcher = setInterval(() => {
    if (existsSync(home.facts) && statSync(home.facts).size > killAt) child.kill('SIGKILL');
  }, 5);
  const [code, signal] = (await exited) as [number | null, string | null];
  clearInterval(watcher);
  if (signal !== 'SIGKILL' && code !== 0) throw new Error(`the workload ended with ${code}: ${await errors}`);
};

/** Half of the cuts fall beside what is rare and delicate: new and vanishing files, checkpoints, first syncs. */
const cutOf = (records: readonly LogRecord[], random: Random): number => {
  const rare = records.flatMap(({ kind, path: name }, index) =>
    kind === 'write' || kind === 'fact' || (kind === 'sync' && name.endsWith('-wal')) ? [] : [index],
  );
  if (random.next() < 0.5 || rare.length === 0) return random.int(0, records.length);
  const near = rare[random.int(0, rare.length - 1)]! + random.int(-20, 20);
  return Math.min(Math.max(near, 0), records.length);
};

const problemsOfRun = async (durability: string, seed: number): Promise<string[]> => {
  const random = new Random(seed);
  const home = newHome();
  await runAndKill(home, durability, random, seed);
  const records = readLog(home.log);
  const problems: string[] = [];
  for (let number = 0; number < CUTS; number += 1) {
    // The last cut is the kill itself.
    const cut = number === CUTS - 1 ? records.length : cutOf(records, random);
    const image = path.join(home.root, 'image');
    const facts = buildImage(records, cut, home.data, image, () => random.next());
    const found = await inspect(image, facts);
    problems.push(...found.map((problem) => `seed ${seed}, cut at ${cut} of ${records.length}: ${problem}`));
  }
  rmSync(home.root, { recursive: true, force: true });
  return problems;
};

describe.skipIf(!hasShim)('a power cut', () => {
  afterAll(() => rmSync(workspace, { recursive: true, force: true }));

  it.each(Array.from({ length: RUNS }, (_, run) => SEED + run))(
    'loses nothing that was acknowledged (seed %i)',
    async (seed) => {
      expect(await problemsOfRun('fsync', seed)).toEqual([]);
    },
  );

  it('is seen by this harness to lose calls when nothing is synced', async () => {
    const problems = await problemsOfRun('memory', SEED);
    expect(problems.length).toBeGreaterThan(0);
  });

  it('has a failed fsync stop the process before anything more is acknowledged', async () => {
    const home = newHome();
    const child = start(home, 'workload.ts', ['fsync', '100000', '1'], { POWER_CUT_FAIL_SYNC: '60' });
    const errors = textOf(child.stderr!);
    const [code] = (await once(child, 'exit')) as [number];
    expect(await errors).toContain('the store failed to commit');
    expect(code).toBe(70);
    const records = readLog(home.log);
    const lastSync = records.findLastIndex(({ kind }) => kind === 'sync');
    const facts = buildImage(records, records.length, home.data, path.join(home.root, 'image'), () => 0);
    expect(facts.length).toBeGreaterThan(0);
    expect(lastSync).toBeGreaterThan(0);
    expect(await inspect(path.join(home.root, 'image'), facts)).toEqual([]);
  });

  it('does not fear a full disk: refuses, reads, settles nothing wrong, recovers', async () => {
    const home = newHome();
    const child = start(home, 'full-disk.ts', [home.full]);
    const [code] = (await once(child, 'exit')) as [number];
    const told = existsSync(home.facts) ? readFileSync(home.facts, 'utf8').trim().split('\n') : [];
    expect(code, await textOf(child.stderr!)).toBe(0);
    expect(told).toEqual([
      'refused disk_full',
      'read pending',
      'read completed',
      'large refused disk_full',
      'recovered',
      'finished',
    ]);
  });
});
