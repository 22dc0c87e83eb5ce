/** What a waiting row of 60 characters costs Redis, in bulk calls and in single-row calls, and that all of it comes back. */
import { setTimeout as wait } from 'node:timers/promises';
import type { Options } from '../comparison.ts';
import { generate } from '../generator/load.ts';
import { watchShares } from '../machine/core-shares.ts';
import { type Fleet, startFleet } from '../peers/fleet.ts';
import { REDIS_SETTINGS, type RedisPeer, startRedis } from '../peers/redis.ts';
import { ask } from '../peers/sluice.ts';
import { below, type Figure, type Measurement, plain, type ScenarioResult } from '../record.ts';
import { makeFrames } from './bulk-frames.ts';
import { ARROW, concurrently } from './bulk-passes.ts';
import { sluiceEndpoint } from './rows-load.ts';

export const title = 'Redis memory of waiting rows of 60 characters, and after they are gone';

const ROWS_FULL = 1_000_000;
const ROWS_SHORT = 100_000;
/** Rows of one bulk call. */
const CALL_ROWS = 1000;
const CONNECTIONS = 64;
/** Enough for scripts, counters and tables that stay, whatever comes. */
const WARM_ROWS = 2000;
const GOALS = { bulk: 150, single: 350 };
/** Of what the rows took; the allocator keeps tables that grew, and the store the numbers of what it swept. */
const LEFT_PERCENT_MAX = 2;
const QUIET_MS = 1000;
const QUIET_BYTES = 64 * 1024;
const GONE_MS = 300_000;
const RETENTION = '1s';
const MIB = 2 ** 20;

type Kind = keyof typeof GOALS;

/** Once no client's buffer and no rehash changes it any more. */
const settledBytes = async (redis: RedisPeer): Promise<number> => {
  for (let before = await redis.usedBytes(); ; ) {
    await wait(QUIET_MS);
    const now = await redis.usedBytes();
    if (Math.abs(now - before) < QUIET_BYTES) return now;
    before = now;
  }
};

const endpoint = sluiceEndpoint('lengths', 0);
const CHARACTERS = 60;
const bodies = Array.from({ length: 64 }, (_, i) =>
  JSON.stringify({ columns: { text: [`row ${i} `.padEnd(CHARACTERS, 'abcdefghijklmnopqrstuvwxyz')] } }),
);

/** Answers the seconds it took. */
const fill = async (fleet: Fleet, kind: Kind, rows: number): Promise<number> => {
  const port = Number(new URL(fleet.url).port);
  if (kind === 'single') {
    const plan = { ...endpoint, bodies, host: '127.0.0.1', port, connections: CONNECTIONS, warmupSeconds: 0 };
    const load = await generate({ ...plan, seconds: null, requests: rows, markEvery: null });
    if (load.requests !== rows) throw new Error(`Only ${load.requests} of ${rows} rows were accepted.`);
    return load.seconds;
  }
  const url = `${fleet.url}/v1/functions/lengths/calls`;
  const frames = makeFrames(rows, CALL_ROWS);
  const startedAt = performance.now();
  await concurrently(frames, async (body) => {
    const answer = await fetch(url, { method: 'POST', body, headers: { 'content-type': ARROW } });
    if (answer.status !== 202) throw new Error(`POST ${url}: ${answer.status} ${await answer.text()}`);
    return (await answer.arrayBuffer()).byteLength;
  });
  return (performance.now() - startedAt) / 1000;
};

type Shown = { readonly calls: readonly unknown[] };

/** Cancels all that waits, and waits until the sweeps have dropped every call, which ends at once after its retention. */
const empty = async (fleet: Fleet): Promise<number> => {
  const startedAt = performance.now();
  await ask(fleet, 'POST', '/v1/functions/lengths/purge');
  while (performance.now() - startedAt < GONE_MS) {
    const { calls } = (await ask(fleet, 'GET', '/v1/calls?limit=1')) as Shown;
    if (calls.length === 0) return (performance.now() - startedAt) / 1000;
    await wait(200);
  }
  throw new Error(`Calls were still there ${GONE_MS / 1000} s after they had been cancelled.`);
};

type Weighed = {
  readonly measurement: Measurement;
  readonly figures: readonly Figure[];
  readonly note: string;
};

const weigh = async (kind: Kind, rows: number, options: Options): Promise<Weighed> => {
  await using peers = new AsyncDisposableStack();
  const redis = await startRedis();
  peers.defer(redis.stop);
  const env = { SLUICE_RETENTION: RETENTION, SLUICE_ACKNOWLEDGED_RETENTION: RETENTION };
  const fleet = await startFleet(redis, ['ingress', 'buffer'], [], env);
  peers.defer(fleet.stop);
  await ask(fleet, 'POST', '/v1/functions/lengths/pause');
  await fill(fleet, kind, WARM_ROWS);
  await empty(fleet);

  const base = await settledBytes(redis);
  const sharesOf = watchShares(fleet.parts);
  const seconds = await fill(fleet, kind, rows);
  const { cpuSeconds } = sharesOf();
  const filled = (await settledBytes(redis)) - base;
  const perRow = filled / rows;
  const words = kind === 'bulk' ? `calls of ${CALL_ROWS.toLocaleString('en')} rows` : 'single-row calls';
  options.say(
    `  ${words}: ${perRow.toFixed(1)} bytes a row, ${Math.round(rows / seconds).toLocaleString('en')} rows/s`,
  );
  const emptySeconds = await empty(fleet);
  const left = (await settledBytes(redis)) - base;
  options.say(
    `  ${words}: ${(left / MIB).toFixed(2)} MiB left ${emptySeconds.toFixed(1)} s after the cancel`,
  );
  return {
    measurement: {
      subject: 'redis',
      setting: words,
      rows,
      seconds,
      rowsPerSecond: rows / seconds,
      rounds: [Math.round(rows / seconds)],
      cpuMicrosPerRow: (cpuSeconds / rows) * 1e6,
      p50Ms: null,
      p99Ms: null,
      failures: 0,
    },
    figures: [
      below(`Redis memory a row, ${words}`, perRow, 'bytes', GOALS[kind]),
      below(`left of it after cancel and sweep, ${words}`, (100 * left) / filled, '%', LEFT_PERCENT_MAX),
      plain(`cancel to swept, ${words}`, emptySeconds, 's'),
    ],
    note: `${words}: base ${(base / MIB).toFixed(2)} MiB, filled ${((base + filled) / MIB).toFixed(2)} MiB, afterwards ${((base + left) / MIB).toFixed(2)} MiB`,
  };
};

export const run = async (options: Options): Promise<ScenarioResult> => {
  const rows = options.full ? ROWS_FULL : ROWS_SHORT;
  const weighed = [await weigh('bulk', rows, options), await weigh('single', rows, options)];
  const figures = weighed.flatMap((one) => one.figures);
  return {
    measurements: weighed.map(({ measurement }) => measurement),
    figures: options.full ? figures : figures.map((figure) => ({ ...figure, met: null })),
    notes: [
      `used_memory of Redis: ${REDIS_SETTINGS}; retention ${RETENTION}.`,
      ...weighed.map(({ note }) => note),
      ...(options.full
        ? []
        : [`Run with --full for ${ROWS_FULL.toLocaleString('en')} rows, the size that the goals name.`]),
    ],
  };
};
