/** Runs the generator in a process of its own and adds what the server's process trees spent meanwhile. */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { cpuSecondsOf } from '../machine/process-tree.ts';
import { Latencies } from './latencies.ts';

export type LoadPlan = {
  readonly host: string;
  readonly port: number;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Sent in turn. */
  readonly bodies: readonly string[];
  readonly connections: number;
  readonly warmupSeconds: number;
  /** How long to measure; null: until `requests` are answered. */
  readonly seconds: number | null;
  readonly requests: number | null;
  /** Notes the time of every n-th answer. */
  readonly markEvery: number | null;
  readonly expect: { readonly status: number; readonly text: string };
};

/** What the generator process answers. */
export type LoadReport = {
  readonly seconds: number;
  readonly counts: readonly number[];
  readonly failures: readonly { readonly why: string; readonly count: number }[];
  readonly unexpected: number;
  readonly markSeconds: readonly number[];
  /** Share of one core that the generator used; near 1 means that it was the bottleneck. */
  readonly generatorCores: number;
};

export type LoadResult = LoadReport & {
  readonly latencies: Latencies;
  readonly requests: number;
  readonly cpuSeconds: number;
  /** The same, of each root. */
  readonly cpuSecondsOfEach: readonly number[];
  /** CPU time of the server since the start, at each mark. */
  readonly markCpuSeconds: readonly number[];
};

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

/** `roots`: of the server's process trees. Failed requests are in `failures`, never in `requests`. */
export const generate = async (plan: LoadPlan, ...roots: readonly number[]): Promise<LoadResult> => {
  const child = fork(fileURLToPath(new URL('./main.ts', import.meta.url)), { execArgv: [] });
  let before = roots.map(cpuSecondsOf);
  const spent = (): number[] => roots.map((root, index) => cpuSecondsOf(root) - before[index]!);
  const markCpuSeconds: number[] = [];
  const report = await new Promise<LoadReport>((resolve, reject) => {
    child.on('message', (message: LoadReport | 'measuring' | 'mark') => {
      if (message === 'measuring') before = roots.map(cpuSecondsOf);
      else if (message === 'mark') markCpuSeconds.push(sum(spent()));
      else resolve(message);
    });
    child.once('exit', (code) =>
      reject(new Error(`The load generator ended with ${code} before it reported.`)),
    );
    child.once('error', reject);
    child.send(plan);
  });
  const latencies = new Latencies(report.counts);
  const cpuSecondsOfEach = spent();
  const cpuSeconds = sum(cpuSecondsOfEach);
  return { ...report, latencies, requests: sum(report.counts), cpuSeconds, cpuSecondsOfEach, markCpuSeconds };
};
