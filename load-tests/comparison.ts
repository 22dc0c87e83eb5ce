/** Runs subjects in turn (ours, reference, peer, ours, …) so that a slow minute of the machine hits all of them. */

import { Latencies } from './generator/latencies.ts';
import type { Measurement } from './record.ts';

export type Options = {
  /** Of one run of one subject. */
  readonly seconds: number;
  readonly rounds: number;
  /** The sizes that the goals name; without it the scenarios that take minutes run smaller. */
  readonly full: boolean;
  readonly say: (line: string) => void;
};

/** One run. `latencies`: of its requests, where it has any. */
export type Run = {
  readonly rows: number;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly latencies: Latencies | null;
  readonly failures: number;
  /** Why, and a warning where the load generator was near its limit. */
  readonly remarks: readonly string[];
};

export type Subject = { readonly name: string; readonly run: () => Promise<Run> };

const measured = (subject: string, setting: string, runs: readonly Run[]): Measurement => {
  const sum = (pick: (run: Run) => number): number => runs.reduce((total, run) => total + pick(run), 0);
  const latencies = new Latencies();
  for (const run of runs) if (run.latencies) latencies.add(run.latencies);
  const timed = runs.some((run) => run.latencies !== null);
  const [rows, seconds] = [sum((run) => run.rows), sum((run) => run.seconds)];
  return {
    subject,
    setting,
    rows,
    seconds,
    rowsPerSecond: rows / seconds,
    rounds: runs.map((run) => Math.round(run.rows / run.seconds)),
    cpuMicrosPerRow: (sum((run) => run.cpuSeconds) / rows) * 1e6,
    p50Ms: timed ? latencies.percentileMs(0.5) : null,
    p99Ms: timed ? latencies.percentileMs(0.99) : null,
    failures: sum((run) => run.failures),
  };
};

export const interleave = async (
  setting: string,
  subjects: readonly Subject[],
  options: Options,
): Promise<{ measurements: Measurement[]; remarks: string[] }> => {
  const runs = subjects.map((): Run[] => []);
  const remarks = new Set<string>();
  for (let round = 0; round < options.rounds; round++) {
    for (const [index, subject] of subjects.entries()) {
      const run = await subject.run();
      // A server that died would otherwise be recorded as one that is infinitely slow.
      if (run.rows === 0)
        throw new Error(`${subject.name} answered nothing at ${setting}. ${run.remarks.join('; ')}`);
      runs[index]!.push(run);
      for (const remark of run.remarks) remarks.add(`${subject.name}, ${setting}: ${remark}`);
      const p50 = run.latencies ? `, p50 ${run.latencies.percentileMs(0.5).toFixed(1)} ms` : '';
      options.say(
        `  ${setting}, ${subject.name}: ${Math.round(run.rows / run.seconds).toLocaleString('en')} rows/s${p50}`,
      );
    }
  }
  const measurements = subjects.map((subject, index) => measured(subject.name, setting, runs[index]!));
  return { measurements, remarks: [...remarks] };
};

export const find = (measurements: readonly Measurement[], subject: string, setting: string): Measurement => {
  const found = measurements.find((one) => one.subject === subject && one.setting === setting);
  if (!found) throw new Error(`No measurement of ${subject} at ${setting}.`);
  return found;
};
