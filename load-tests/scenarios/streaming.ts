/** (d) A Parquet file far larger than memory should need, through `sluice run`, with the server's memory watched. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import type { Options } from '../comparison.ts';
import { cpuSecondsOf, watchMemory } from '../machine/process-tree.ts';
import { PYTHON, SCRATCH } from '../peers/peer.ts';
import { discard, type SluicePeer, sluice, startSluice } from '../peers/sluice.ts';
import { atLeast, below, type Figure, type Measurement, plain, type ScenarioResult } from '../record.ts';

export const title = 'A table streamed through `sluice run` (60 characters to 8 floats a row)';

const ROWS_BASE = 1_000_000;
const ROWS_FULL = 10_000_000;
/** Without --full: enough to see memory grow, short enough for a coffee. */
const ROWS_SHORT = 2_000_000;
const GIB = 2 ** 30;

const runScript = new URL('../peers/rows.py', import.meta.url).pathname;

type Streamed = Measurement & { readonly memoryBytes: number };

const stream = async (peer: SluicePeer, rows: number, options: Options): Promise<Streamed> => {
  mkdirSync(SCRATCH, { recursive: true });
  const [input, output] = [
    path.join(SCRATCH, `in-${rows}.parquet`),
    path.join(SCRATCH, `out-${rows}.parquet`),
  ];
  try {
    execFileSync(PYTHON, [runScript, '--rows', String(rows), '--parquet', input]);
    rmSync(output, { force: true });
    const memory = watchMemory(peer.pid);
    const [startedAt, cpuBefore] = [performance.now(), cpuSecondsOf(peer.pid)];
    const flags = [
      '--function',
      'vectors_8',
      '--input',
      input,
      '--column',
      'text',
      '--output',
      output,
      '--json',
    ];
    await sluice(peer, 'run', ...flags).finally(() => memory.stop());
    const seconds = (performance.now() - startedAt) / 1000;
    const count = `import pyarrow.parquet as p; print(p.ParquetFile(${JSON.stringify(output)}).metadata.num_rows)`;
    const written = Number(execFileSync(PYTHON, ['-c', count], { encoding: 'utf8' }));
    const peak = memory.stop();
    options.say(
      `  ${rows.toLocaleString('en')} rows: ${Math.round(rows / seconds).toLocaleString('en')} rows/s, ` +
        `server ${(peak.server / GIB).toFixed(2)} GiB, with handlers ${(peak.tree / GIB).toFixed(2)} GiB`,
    );
    return {
      subject: 'sluice',
      setting: `${rows.toLocaleString('en')} rows`,
      rows,
      seconds,
      rowsPerSecond: rows / seconds,
      rounds: [Math.round(rows / seconds)],
      cpuMicrosPerRow: ((cpuSecondsOf(peer.pid) - cpuBefore) / rows) * 1e6,
      p50Ms: null,
      p99Ms: null,
      failures: rows - written,
      memoryBytes: peak.server,
    };
  } finally {
    rmSync(input, { force: true });
    rmSync(output, { force: true });
    rmSync(`${output}.parts`, { force: true, recursive: true });
  }
};

export const run = async (options: Options): Promise<ScenarioResult> => {
  const peer = await startSluice(['vectors_8']);
  try {
    const base = await stream(peer, ROWS_BASE, options);
    const long = await stream(peer, options.full ? ROWS_FULL : ROWS_SHORT, options);
    const speed = long.rowsPerSecond / base.rowsPerSecond;
    const name = `rows/s, ${long.setting} / ${base.setting}`;
    const memory = below(`server memory, ${long.setting}`, long.memoryBytes / GIB, 'GiB', 1);
    const figures: Figure[] = [
      options.full ? atLeast(name, speed, '×', 0.9) : plain(name, speed, '×'),
      options.full ? memory : { ...memory, goal: null, met: null },
      plain(`server memory, ${base.setting}`, base.memoryBytes / GIB, 'GiB'),
    ];
    const measurements = [base, long].map(({ memoryBytes, ...measurement }) => measurement);
    const notes = options.full ? [] : ['Run with --full for 10,000,000 rows, the size that the goal names.'];
    return { measurements, figures, notes };
  } finally {
    await discard(peer);
  }
};
