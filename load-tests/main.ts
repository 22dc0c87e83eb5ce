/** `npm run bench -- [scenario …] [--seconds N] [--rounds N] [--full]`: measures, prints, and records in results/. */
import { parseArgs } from 'node:util';
import type { Options } from './comparison.ts';
import { describeMachine } from './machine/machine.ts';
import { cpuSecondsOf, machineSeconds } from './machine/process-tree.ts';
import { type ScenarioResult, save } from './record.ts';
import { formatFigures, writeReport } from './report.ts';
import * as backlog from './scenarios/backlog.ts';
import * as bulk from './scenarios/bulk.ts';
import * as inferenceStore from './scenarios/inference-store.ts';
import * as redisBulk from './scenarios/redis-bulk.ts';
import * as redisIngress from './scenarios/redis-ingress.ts';
import * as redisMemory from './scenarios/redis-memory.ts';
import * as simulatedGpu from './scenarios/simulated-gpu.ts';
import * as singleRows from './scenarios/single-rows.ts';
import * as streaming from './scenarios/streaming.ts';

type Scenario = { readonly title: string; readonly run: (options: Options) => Promise<ScenarioResult> };

const SCENARIOS: Readonly<Record<string, Scenario>> = {
  'single-rows': singleRows,
  'simulated-gpu': simulatedGpu,
  bulk,
  streaming,
  backlog,
  'inference-store': inferenceStore,
  'redis-bulk': redisBulk,
  'redis-ingress': redisIngress,
  'redis-memory': redisMemory,
};

const USAGE = `node load-tests/main.ts [scenario …] [--seconds N] [--rounds N] [--full]
  scenarios: ${Object.keys(SCENARIOS).join(', ')} (default: all)
  --seconds  of one run of one server (default 10)
  --rounds   each server runs so often, in turn (default 2)
  --full     the sizes that the goals name: 10 million streamed rows, 1 million waiting calls and rows`;

const readArguments = (): { names: string[]; options: Options } => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seconds: { type: 'string', default: '10' },
      rounds: { type: 'string', default: '2' },
      full: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    process.exit(0);
  }
  const unknown = positionals.find((name) => !Object.hasOwn(SCENARIOS, name));
  const [seconds, rounds] = [Number(values.seconds), Number(values.rounds)];
  if (unknown !== undefined || !(seconds > 0) || !Number.isInteger(rounds) || rounds < 1) {
    console.error(unknown === undefined ? USAGE : `There is no scenario ${unknown}.\n${USAGE}`);
    process.exit(2);
  }
  const names = positionals.length > 0 ? positionals : Object.keys(SCENARIOS);
  return { names, options: { seconds, rounds, full: values.full, say: console.log } };
};

/** Above this the machine was not ours alone, and the figures say so. */
const OTHER_CORES_MAX = 0.25;

/** Cores that processes other than ours and our children keep busy, from here to the call of what it answers. */
const watchOthers = (): (() => number) => {
  const others = (): number => machineSeconds() - cpuSecondsOf(process.pid);
  const [before, startedAt] = [others(), performance.now()];
  return () => ((others() - before) * 1000) / (performance.now() - startedAt);
};

const { names, options } = readArguments();
let failed = false;
for (const scenario of names) {
  const { title, run } = SCENARIOS[scenario]!;
  console.log(`${scenario}: ${title}`);
  const [machine, startedAt] = [describeMachine(), new Date().toISOString()];
  try {
    const othersOf = watchOthers();
    const measured = await run(options);
    const others = othersOf();
    const busy = `Other processes kept ${others.toFixed(1)} of ${machine.cores} cores busy meanwhile: not a quiet machine.`;
    const result = others > OTHER_CORES_MAX ? { ...measured, notes: [...measured.notes, busy] } : measured;
    save({ scenario, title, startedAt, machine, ...result });
    console.log(formatFigures(result));
  } catch (error) {
    failed = true;
    console.error(`${scenario} did not finish: ${error instanceof Error ? error.message : error}`);
  }
}
writeReport();
console.log('recorded in load-tests/results/README.md');
process.exitCode = failed ? 1 : 0;
