/**
 * Single-row calls that are answered 202 and not waited for, through one ingress process and through two. What Redis,
 * the ingress processes and the generators spent says what the limit was. The function is paused: nothing but enqueuing runs.
 */
import os from 'node:os';
import { find, interleave, type Options, type Run, type Subject } from '../comparison.ts';
import { Latencies } from '../generator/latencies.ts';
import { generate, type LoadResult } from '../generator/load.ts';
import { type Fleet, startFleet } from '../peers/fleet.ts';
import { REDIS_SETTINGS, startRedis } from '../peers/redis.ts';
import { ask } from '../peers/sluice.ts';
import { atLeast, type Figure, type Measurement, plain, type ScenarioResult } from '../record.ts';
import { sluiceEndpoint } from './rows-load.ts';

export const title = 'Single-row enqueues on Redis through one ingress process and through two';

/** With a quarter of them the callers, who each wait for the disk, are the limit before a second process is. */
const CONNECTIONS = 512;
/** As many with one door as with two, so that they cost and spread the same. */
const GENERATORS = 2;
/** Of its HTTP threads, so that a process is one core's worth of server and two of them fit a small machine. */
const THREADS = 1;
const SETTING = `${CONNECTIONS} connections`;
/** With less than this share of the machine idle, more processes could not be faster. */
const IDLE_SHARE_MIN = 0.1;

type Spent = Record<'Redis' | 'ingress' | 'buffer' | 'generators', number>;

const coresOf = (fleet: Fleet, loads: readonly LoadResult[]): Spent => {
  const [redis, ...processes] = loads[0]!.cpuSecondsOfEach.map((seconds) => seconds / loads[0]!.seconds);
  const ofRole = (wanted: string): number =>
    processes.reduce((sum, cores, index) => sum + (fleet.processes[index]!.role === wanted ? cores : 0), 0);
  return {
    Redis: redis!,
    ingress: ofRole('ingress'),
    buffer: ofRole('buffer'),
    generators: loads.reduce((sum, load) => sum + load.generatorCores, 0),
  };
};

const total = (spent: Spent): number => Object.values(spent).reduce((sum, cores) => sum + cores, 0);

const words = (spent: Spent): string =>
  `cores kept busy: ${Object.entries(spent)
    .map(([name, cores]) => `${name} ${cores.toFixed(2)}`)
    .join(', ')}; ${total(spent).toFixed(2)} of ${os.availableParallelism()}`;

type Doors = { readonly subject: Subject; readonly spent: Spent[] };

const doorsSubject = (
  name: string,
  fleet: Fleet,
  redisPid: number,
  doors: number,
  seconds: number,
): Doors => {
  const ports = fleet.processes.filter(({ role }) => role === 'ingress').map(({ port }) => port);
  const roots = [redisPid, ...fleet.processes.map(({ pid }) => pid)];
  const spent: Spent[] = [];
  const loadOf = (generator: number): Promise<LoadResult> =>
    generate(
      {
        ...sluiceEndpoint('lengths', 0),
        host: '127.0.0.1',
        port: ports[generator % doors]!,
        connections: CONNECTIONS / GENERATORS,
        warmupSeconds: Math.min(2, seconds / 4),
        seconds,
        requests: null,
        markEvery: null,
      },
      ...roots,
    );
  const run = async (): Promise<Run> => {
    const loads = await Promise.all(Array.from({ length: GENERATORS }, (_, generator) => loadOf(generator)));
    const sum = (pick: (load: LoadResult) => number): number =>
      loads.reduce((value, load) => value + pick(load), 0);
    const latencies = new Latencies();
    for (const load of loads) latencies.add(load.latencies);
    const cores = coresOf(fleet, loads);
    spent.push(cores);
    return {
      rows: sum(({ requests }) => requests),
      seconds: sum((load) => load.seconds) / loads.length,
      cpuSeconds: loads[0]!.cpuSeconds,
      latencies,
      failures: sum((load) => load.unexpected + load.failures.reduce((all, { count }) => all + count, 0)),
      remarks: [
        words(cores),
        ...loads.flatMap((load) => load.failures.map(({ why, count }) => `${count} × ${why}`)),
      ],
    };
  };
  return { subject: { name, run }, spent };
};

/** The goal is for machines with cores to spare: where all are busy, what was measured is how they were shared. */
const figuresOf = (measurements: readonly Measurement[], spent: readonly Spent[]): Figure[] => {
  const [one, two] = ['one ingress', 'two ingresses'].map((name) => find(measurements, name, SETTING));
  const figure = atLeast('two ingresses / one', two!.rowsPerSecond / one!.rowsPerSecond, '×', 1.6);
  const cores = os.availableParallelism();
  const busy = Math.max(...spent.map(total)) / cores;
  const isFull = busy > 1 - IDLE_SHARE_MIN;
  return [
    figure.met || !isFull ? figure : { ...figure, met: null },
    plain('cores kept busy with two', 100 * busy, '%'),
    plain('CPU a row, two / one', two!.cpuMicrosPerRow / one!.cpuMicrosPerRow, '×'),
  ];
};

export const run = async (options: Options): Promise<ScenarioResult> => {
  await using peers = new AsyncDisposableStack();
  const redis = await startRedis();
  peers.defer(redis.stop);
  const env = { SLUICE_INGRESS_THREADS: String(THREADS) };
  const fleet = await startFleet(redis, ['ingress', 'ingress', 'buffer'], [], env);
  peers.defer(fleet.stop);
  await ask(fleet, 'POST', '/v1/functions/lengths/pause');
  const one = doorsSubject('one ingress', fleet, redis.pid, 1, options.seconds);
  const two = doorsSubject('two ingresses', fleet, redis.pid, 2, options.seconds);
  const { measurements, remarks } = await interleave(SETTING, [one.subject, two.subject], options);
  const notes = [
    `Redis ${redis.version}: ${REDIS_SETTINGS}. Each ingress process has ${THREADS} HTTP thread; ${GENERATORS} generators.`,
    'Without a verdict the machine was full: there were no cores for a second process.',
    ...remarks,
  ];
  return { measurements, figures: figuresOf(measurements, two.spent), notes };
};
