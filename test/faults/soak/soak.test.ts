/**
 * Servers under mixed load for minutes, with short retention and a new version now and then: every row has one outcome, the
 * servers count what their callers were told, and what they hold of the machine does not grow from the middle of the run to
 * its end.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect, it, vi } from 'vitest';
import { Random } from '../../sim/random.ts';
import { Herd } from '../../support/herd.ts';
import { metricsOf } from '../../support/metrics.ts';
import { SEED } from '../../support/seed.ts';
import { eventually } from '../../support/sluice-process.ts';
import { onEveryStore } from '../../support/stores.ts';
import { NAME, OUTCOMES, REPLICAS, SoakCallers, sourceOf } from './callers.ts';
import { type Footprint, footprintOf, memoryBytesOf } from './footprint.ts';

const LONG = process.env.SLUICE_TEST_LONG !== undefined;
vi.setConfig({ testTimeout: LONG ? 3_600_000 : 600_000 });

const MIB = 2 ** 20;
/** Each half is load and then a rest, in which what was kept for readers goes. */
const PLAN = LONG
  ? { halfMs: 180_000, deployMs: 10_000, retention: '10s', acknowledged: 0.5, memoryMib: 128 }
  : // What is not acknowledged stays readable on a machine that stalls. Memory still finds its level.
    { halfMs: 2500, deployMs: 1500, retention: '10m', acknowledged: 1, memoryMib: 256 };
const ROLES = { embedded: ['all'], redis: ['ingress', 'buffer', 'worker'] };
/** Beside a quarter more; the embedded store keeps the segment file that it writes to, up to 256 MiB, and writes gigabytes. */
const STORE_MIB = { embedded: 320, redis: 8 };
const CALLERS = 8;
/** Ended between two looks at the memory. */
const SAMPLE_CALLS = 20;
/** A small heap is soon as large as it gets: what goes on growing is a leak, and a large one ends the server. */
const SMALL_HEAP = { NODE_OPTIONS: '--max-old-space-size=192 --max-semi-space-size=8' };

type Measured = Footprint & {
  /** The least of the last third under load: a collection has just been. */
  readonly loadedBytes: number;
};

const expectNoGrowth = (middle: Measured, end: Measured, storeMib: number): void => {
  const grown = (of: (measured: Measured) => number): number => of(end) - of(middle);
  expect(grown(({ loadedBytes }) => loadedBytes) / MIB, 'MiB of memory').toBeLessThan(PLAN.memoryMib);
  expect(
    grown(({ threads }) => threads),
    'threads',
  ).toBeLessThan(8);
  expect(
    grown(({ descriptors }) => descriptors),
    'open descriptors',
  ).toBeLessThan(16);
  const spare = middle.storeBytes / 4 / MIB;
  expect(grown(({ storeBytes }) => storeBytes) / MIB, 'MiB of the store').toBeLessThan(spare + storeMib);
};

/** What processes hold is read from /proc. */
const isReadable = process.platform === 'linux';

onEveryStore((store) => {
  it.runIf(isReadable)(
    `a soak loses no row, and nothing grows from its middle to its end (SLUICE_TEST_SEED=${SEED})`,
    async () => {
      const home = await store.makeHome();
      const directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-soak-'));
      const source = path.join(directory, 'soaked.py');
      const herd = await Herd.start(home, {
        roles: ROLES[store.name],
        random: new Random(SEED),
        args: ['--retention', PLAN.retention, '--acknowledged-retention', '1s', '--health-port', '0'],
        place: () => ({ env: SMALL_HEAP }),
      });
      const door = herd.door()!;
      const callers = new SoakCallers(door.url, { seed: SEED, acknowledged: PLAN.acknowledged });
      let releases = 0;
      const deploy = async (): Promise<void> => {
        writeFileSync(source, sourceOf(releases));
        releases += 1;
        await door.deploy(source);
      };
      const load = async (): Promise<number> => {
        const start = performance.now();
        let [deployAt, loadedBytes] = [start + PLAN.deployMs, Number.POSITIVE_INFINITY];
        callers.load(CALLERS);
        while (performance.now() < start + PLAN.halfMs) {
          await callers.progress(SAMPLE_CALLS);
          if (performance.now() > start + (2 / 3) * PLAN.halfMs)
            loadedBytes = Math.min(loadedBytes, memoryBytesOf(herd.alive));
          if (performance.now() < deployAt) continue;
          await deploy();
          deployAt = performance.now() + PLAN.deployMs;
        }
        await callers.unload();
        return Math.min(loadedBytes, memoryBytesOf(herd.alive));
      };
      const half = async (): Promise<Measured> => {
        const loadedBytes = await load();
        await eventually('what was kept for readers has gone', async () => {
          const page = await (await fetch(`${door.url}/v1/calls?function=${NAME}&limit=1`)).json();
          return (page as { calls: unknown[] }).calls.length === 0;
        });
        await eventually('the replicas of old versions have left', async () => {
          return herd.alive.flatMap((server) => server.handlers()).length === REPLICAS;
        });
        const measured = { loadedBytes, ...(await footprintOf(home, herd.alive)) };
        console.info(
          `${store.name}, seed ${SEED}: ${callers.rows} rows in ${callers.calls} calls, ${releases} releases; ${JSON.stringify(measured)}`,
        );
        return measured;
      };
      try {
        await deploy();
        const middle = await half();
        const end = await half();
        const metrics = await metricsOf(herd.alive);
        const told = OUTCOMES.map((outcome) => [
          outcome,
          metrics.value('sluice_rows_ended', { function: NAME, outcome }),
        ]);
        expect(Object.fromEntries(told)).toEqual(callers.ended);
        expect(metrics.value('sluice_rows_admitted_total', { function: NAME })).toBe(callers.rows);
        for (const state of ['waiting', 'sealed'])
          expect(metrics.value('sluice_queue_rows', { function: NAME, state }), state).toBe(0);
        if (LONG) expect(Math.min(...OUTCOMES.map((outcome) => callers.ended[outcome]))).toBeGreaterThan(0);
        expectNoGrowth(middle, end, STORE_MIB[store.name]);
      } catch (error) {
        for (const server of herd.alive) console.info(`--- ${server.pid}\n${server.log.slice(-3000)}`);
        throw error;
      } finally {
        callers.abandon();
        await herd.stop();
        await home.remove();
        rmSync(directory, { recursive: true, force: true });
      }
    },
  );
});
