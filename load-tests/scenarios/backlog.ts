/** (e) Single-row calls queue behind a paused function; then the server is killed and started again on what waits. */
import type { Options } from '../comparison.ts';
import { generate, type LoadPlan } from '../generator/load.ts';
import { memoryOf, watchMemory } from '../machine/process-tree.ts';
import { ask, discard, restartSluice, type SluicePeer, startSluice } from '../peers/sluice.ts';
import { atLeast, below, type Figure, type Measurement, plain, type ScenarioResult } from '../record.ts';
import { sluiceEndpoint } from './rows-load.ts';

export const title = 'Single-row calls queued behind a paused function, then a restart';

const CALLS_FULL = 1_000_000;
const CALLS_SHORT = 300_000;
/** The first and the last part are compared. */
const PART = 100_000;
const CONNECTIONS = 128;
const GIB = 2 ** 30;

type Shown = { readonly queue: { readonly waiting_rows: number } };

const waitingRows = async (peer: SluicePeer): Promise<number> =>
  ((await ask(peer, 'GET', '/v1/functions/lengths')) as Shown).queue.waiting_rows;

type Filled = {
  /** Calls a second, and CPU seconds of the server, of each part. */
  readonly rates: readonly number[];
  readonly cpuSeconds: readonly number[];
  readonly measurement: Measurement;
  readonly remarks: string[];
};

const steps = (times: readonly number[]): number[] =>
  times.map((time, index) => time - (times[index - 1] ?? 0));

const fill = async (peer: SluicePeer, calls: number): Promise<Filled> => {
  const plan: LoadPlan = {
    ...sluiceEndpoint('lengths', 0),
    host: '127.0.0.1',
    port: peer.port,
    connections: CONNECTIONS,
    warmupSeconds: 0,
    seconds: null,
    requests: calls,
    markEvery: PART,
  };
  const load = await generate(plan, peer.pid);
  const rates = steps(load.markSeconds).map((seconds) => PART / seconds);
  const measurement: Measurement = {
    subject: 'sluice',
    setting: `${calls.toLocaleString('en')} calls`,
    rows: load.requests,
    seconds: load.seconds,
    rowsPerSecond: load.requests / load.seconds,
    rounds: rates.map(Math.round),
    cpuMicrosPerRow: (load.cpuSeconds / load.requests) * 1e6,
    p50Ms: load.latencies.percentileMs(0.5),
    p99Ms: load.latencies.percentileMs(0.99),
    failures: calls - load.requests,
  };
  return {
    rates,
    cpuSeconds: steps(load.markCpuSeconds),
    measurement,
    remarks: load.failures.map(({ why, count }) => `${count} × ${why}`),
  };
};

export const run = async (options: Options): Promise<ScenarioResult> => {
  const calls = options.full ? CALLS_FULL : CALLS_SHORT;
  let peer = await startSluice(['lengths']);
  try {
    await ask(peer, 'POST', '/v1/functions/lengths/pause');
    const memory = watchMemory(peer.pid);
    const { rates, cpuSeconds, measurement, remarks } = await fill(peer, calls);
    const filled = memory.stop();
    const [first, last] = [rates[0]!, rates.at(-1)!];
    options.say(`  admitted ${Math.round(first)} rows/s at first, ${Math.round(last)} rows/s at last`);
    await peer.kill();
    const startedAt = performance.now();
    peer = await restartSluice(peer);
    const restartSeconds = (performance.now() - startedAt) / 1000;
    const waiting = await waitingRows(peer);
    const restarted = memoryOf(peer.pid);
    options.say(`  ready again after ${restartSeconds.toFixed(1)} s with ${waiting} rows waiting`);
    if (waiting !== measurement.rows)
      remarks.push(`${measurement.rows} accepted, ${waiting} waiting after kill -9`);
    const goals: Figure[] = [
      atLeast('admission rate, last / first 100,000', last / first, '×', 0.9),
      plain('CPU a call, last / first 100,000', cpuSeconds.at(-1)! / cpuSeconds[0]!, '×'),
      below('restart to ready', restartSeconds, 's', 10),
      below('server memory while filling', filled.server / GIB, 'GiB', 1.5),
      below('server memory after the restart', restarted.server / GIB, 'GiB', 1.5),
    ];
    const lost = plain('rows lost by kill -9', measurement.rows - waiting, 'rows');
    const figures = options.full ? goals : goals.map((figure) => ({ ...figure, goal: null, met: null }));
    const notes = options.full
      ? remarks
      : [...remarks, `Run with --full for ${CALLS_FULL.toLocaleString('en')} calls.`];
    return { measurements: [measurement], figures: [...figures, lost], notes };
  } finally {
    await discard(peer);
  }
};
