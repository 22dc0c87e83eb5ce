/** Renders results/*.json: a Markdown table for people, and the plot of the project's README. `node load-tests/report.ts` */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { plot } from './plot.ts';
import {
  type Figure,
  loadAll,
  type Measurement,
  RESULTS,
  type ScenarioRecord,
  type ScenarioResult,
} from './record.ts';

const ORDER = [
  'single-rows',
  'simulated-gpu',
  'bulk',
  'streaming',
  'backlog',
  'inference-store',
  'redis-bulk',
  'redis-ingress',
  'redis-memory',
];

const number = (value: number): string =>
  value >= 1000 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)));

const verdict = (figure: Figure): string => (figure.met === null ? '' : figure.met ? 'met' : 'missed');

export const formatFigures = (result: ScenarioResult): string =>
  [
    ...result.figures.map(
      (figure) =>
        `  ${figure.name}: ${number(figure.value)} ${figure.unit}` +
        (figure.goal === null ? '' : `  (goal ${figure.goal}: ${verdict(figure)})`),
    ),
    ...result.notes.map((note) => `  note: ${note}`),
  ].join('\n');

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');

const measurementRow = (one: Measurement): string[] => [
  one.setting,
  one.subject,
  number(one.rowsPerSecond),
  one.rounds.map(number).join(', '),
  number(one.cpuMicrosPerRow),
  one.p50Ms === null ? '' : number(one.p50Ms),
  one.p99Ms === null ? '' : number(one.p99Ms),
  one.failures === 0 ? '' : number(one.failures),
];

const section = (record: ScenarioRecord): string => {
  const { machine } = record;
  const changed = machine.changedFiles > 0 ? ` with ${machine.changedFiles} changed files` : '';
  const figures = record.figures.map((figure) => [
    figure.name,
    `${number(figure.value)} ${figure.unit}`,
    figure.goal ?? '',
    verdict(figure),
  ]);
  return [
    `## ${record.scenario}: ${record.title}`,
    table(['figure', 'value', 'goal', ''], figures),
    table(
      ['setting', 'server', 'rows/s', 'each round', 'CPU µs a row', 'p50 ms', 'p99 ms', 'failures'],
      record.measurements.map(measurementRow),
    ),
    ...(record.notes.length > 0 ? [record.notes.map((note) => `- ${note}`).join('\n')] : []),
    `${record.startedAt.slice(0, 16).replace('T', ' ')} UTC, commit ${machine.commit}${changed}; ${machine.cores} cores of ` +
      `${machine.cpu}, ${machine.memoryGiB} GiB, ${machine.kernel}, Node ${machine.node}, load ${machine.loadAverage} at the start.`,
  ].join('\n\n');
};

const PREFACE = `# What the load tests measured

Made by \`npm run bench\` from the JSON files in this folder; do not edit. Every ratio compares servers that ran in turn on the
same machine in the same run, load generator included, all on loopback. CPU is that of a server's whole process tree.
Differences under a quarter are noise on shared machines.`;

export const writeReport = (): void => {
  const records = loadAll().sort((a, b) => ORDER.indexOf(a.scenario) - ORDER.indexOf(b.scenario));
  if (records.length === 0) return;
  writeFileSync(path.join(RESULTS, 'README.md'), `${[PREFACE, ...records.map(section)].join('\n\n')}\n`);
  const svg = plot(records);
  if (svg !== null) writeFileSync(path.join(RESULTS, 'speed.svg'), svg);
};

if (import.meta.main) writeReport();
