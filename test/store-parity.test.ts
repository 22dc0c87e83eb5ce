/**
 * Both stores run the same tests: what vitest would run below `the embedded store` and `the redis store` is compared by
 * name, in each area, and every difference needs a declared reason, as does a test end to end that is of neither. Skipped
 * tests are not in vitest's list, and so count as missing.
 */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { hasRedis, REDIS_MISSING } from './support/redis-servers.ts';
import { DIFFERENCES, OF_NO_STORE, type StoreName } from './support/store-differences.ts';

const root = path.resolve(import.meta.dirname, '..');
const AREAS = ['contract', 'sim', 'e2e'] as const;
const E2E = path.join(root, 'test/e2e');
const VITEST = path.join(root, 'node_modules/vitest/vitest.mjs');

type Listed = { readonly name: string; readonly file: string };

/**
 * What vitest would run. The variables of the vitest that runs this test are not for the one that lists, and one process
 * that reads all files does half the work of one for each.
 */
const listed = async (): Promise<Listed[]> => {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-tests-'));
  const file = path.join(directory, 'tests.json');
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('VITEST')));
  const folders = AREAS.map((area) => `test/${area}/`);
  try {
    const flags = ['--no-isolate', '--maxWorkers=1', `--json=${file}`];
    await promisify(execFile)(process.execPath, [VITEST, 'list', ...folders, ...flags], { cwd: root, env });
    return JSON.parse(readFileSync(file, 'utf8')) as Listed[];
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
};

const NAME = /^the (embedded|redis) store > (.*)$/s;

/** `AREA > NAME` of the store's tests, without the numbers that stand for seeds and counts. */
const testsOf = (all: readonly Listed[], store: StoreName): string[] =>
  all.flatMap(({ name, file }) => {
    const [, found, rest] = NAME.exec(name) ?? [];
    const area = AREAS.find((one) => path.relative(root, file).startsWith(`test/${one}/`));
    return found === store && area !== undefined ? [`${area} > ${rest!.replace(/\d+/g, '#')}`] : [];
  });

const surplus = (some: readonly string[], others: readonly string[]): string[] => {
  const left = new Map<string, number>();
  for (const name of others) left.set(name, (left.get(name) ?? 0) + 1);
  return some.filter((name) => {
    const count = left.get(name) ?? 0;
    left.set(name, count - 1);
    return count <= 0;
  });
};

it.skipIf(!hasRedis && process.env.CI !== 'true')(
  `the stores run the same tests${hasRedis ? '' : ` (${REDIS_MISSING})`}`,
  async () => {
    const all = await listed();
    const tests = { embedded: testsOf(all, 'embedded'), redis: testsOf(all, 'redis') };
    for (const area of AREAS)
      expect(tests.embedded.filter((name) => name.startsWith(area)).length, area).toBeGreaterThan(2);
    const found = [
      ...surplus(tests.embedded, tests.redis).map((name) => ({ only: 'embedded', name })),
      ...surplus(tests.redis, tests.embedded).map((name) => ({ only: 'redis', name })),
    ];
    const isDeclared = (one: (typeof found)[number]) =>
      DIFFERENCES.find(
        ({ area, only, tests: start }) => only === one.only && one.name.startsWith(`${area} > ${start}`),
      );
    expect(found.filter((one) => !isDeclared(one))).toEqual([]);
    const used = new Set(found.map(isDeclared));
    expect(DIFFERENCES.filter((one) => !used.has(one))).toEqual([]);
    const alone = all.filter(({ name }) => !NAME.test(name)).map(({ file }) => path.relative(E2E, file));
    expect(new Set(alone.filter((file) => !file.startsWith('..') && !(file in OF_NO_STORE)))).toEqual(
      new Set(),
    );
    expect(Object.keys(OF_NO_STORE).filter((file) => !existsSync(path.join(E2E, file)))).toEqual([]);
  },
);
