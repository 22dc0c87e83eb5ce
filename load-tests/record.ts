/** What a scenario measured, and where it is kept: one JSON file a scenario, and one table made from all of them. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Machine } from './machine/machine.ts';

/** One subject (`sluice`, `echo`, `mosec`, `socket`) in one setting, all its rounds together. */
export type Measurement = {
  readonly subject: string;
  readonly setting: string;
  readonly rows: number;
  readonly seconds: number;
  readonly rowsPerSecond: number;
  /** Rows a second of each round, in the order they ran: their spread is the noise. */
  readonly rounds: readonly number[];
  /** CPU time of the server's whole process tree. */
  readonly cpuMicrosPerRow: number;
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
  readonly failures: number;
};

/** A number that a goal speaks of. `met` is null where there is no goal, or where this run was not the size it asks for. */
export type Figure = {
  readonly name: string;
  readonly value: number;
  readonly unit: '×' | '%' | 'ms' | 'rows' | 'rows/s' | 's' | 'GiB' | 'bytes' | 'batch times';
  readonly goal: string | null;
  readonly met: boolean | null;
};

export type ScenarioResult = {
  readonly measurements: readonly Measurement[];
  readonly figures: readonly Figure[];
  readonly notes: readonly string[];
};

export type ScenarioRecord = ScenarioResult & {
  readonly scenario: string;
  readonly title: string;
  readonly startedAt: string;
  readonly machine: Machine;
};

export const RESULTS = fileURLToPath(new URL('./results', import.meta.url));

export const atLeast = (name: string, value: number, unit: Figure['unit'], goal: number): Figure => ({
  name,
  value,
  unit,
  goal: `≥ ${goal} ${unit}`,
  met: value >= goal,
});

export const below = (name: string, value: number, unit: Figure['unit'], goal: number): Figure => ({
  name,
  value,
  unit,
  goal: `≤ ${goal} ${unit}`,
  met: value <= goal,
});

export const plain = (name: string, value: number, unit: Figure['unit']): Figure => ({
  name,
  value,
  unit,
  goal: null,
  met: null,
});

export const save = (record: ScenarioRecord): void => {
  mkdirSync(RESULTS, { recursive: true });
  writeFileSync(
    path.join(RESULTS, `${record.scenario}.json`),
    `${JSON.stringify(record, (_, value) => rounded(value), 2)}\n`,
  );
};

export const loadAll = (): ScenarioRecord[] =>
  (existsSync(RESULTS) ? readdirSync(RESULTS) : [])
    .filter((name) => name.endsWith('.json'))
    .sort()
    .map((name) => JSON.parse(readFileSync(path.join(RESULTS, name), 'utf8')) as ScenarioRecord);

/** Four significant digits: more would pretend to a precision that a shared machine does not have. */
const rounded = (value: unknown): unknown =>
  typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(4)) : value;
