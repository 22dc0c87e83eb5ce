/**
 * A function whose handler notes each of its runs in a file before it answers, and whose every answer names its run: so a test
 * sees which rows ran how often, in which processes, and that each row's result came from one run.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** Rows of these values are refused by the handler, one by one. */
export const isRefused = (value: number): boolean => value % 101 === 100;

export type WitnessOptions = {
  readonly name?: string;
  readonly batchRows?: number;
  readonly replicas?: number;
  /** How long a run takes, so that there is always one to disturb. */
  readonly runMs?: number;
};

const sourceOf = (file: string, { name, batchRows, replicas, runMs }: Required<WitnessOptions>): string => `
import os, time, uuid
import sluice

WORKER = os.getppid()
FILE = os.open(${JSON.stringify(file)}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


@sluice.function(name=${JSON.stringify(name)}, max_batching_size=${batchRows}, max_buffer_duration=5, retries=2, min_replicas=${replicas})
def witnessed(value: list[int]) -> list[str]:
    run = uuid.uuid4().hex[:12]
    os.write(FILE, f"\\n{run} {WORKER} {os.getpid()} {' '.join(map(str, value))} .\\n".encode())
    time.sleep(${runMs / 1000})  # busy: the test disturbs a server that has something to do
    return [sluice.RowError("refused") if v % 101 == 100 else f"{v} {run}" for v in value]
`;

export type Run = {
  readonly id: string;
  readonly worker: number;
  readonly handler: number;
  readonly values: readonly number[];
};

export class Witness {
  readonly name: string;
  readonly batchRows: number;
  /** What to deploy. */
  readonly source: string;
  readonly #directory: string;
  readonly #file: string;

  constructor(options: WitnessOptions = {}) {
    const all = { name: 'witnessed', batchRows: 32, replicas: 1, runMs: 3, ...options };
    this.name = all.name;
    this.batchRows = all.batchRows;
    this.#directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-witness-'));
    this.#file = path.join(this.#directory, 'runs');
    this.source = path.join(this.#directory, 'witnessed.py');
    writeFileSync(this.#file, '');
    writeFileSync(this.source, sourceOf(this.#file, all));
  }

  /**
   * All runs so far, also those whose process was killed in them. A kill can cut a line off in its midst (seen: one in a hundred
   * kills of a process that does nothing else); that run answered nothing, and its neighbours have lines of their own.
   */
  runs(): Run[] {
    return readFileSync(this.#file, 'utf8')
      .split('\n')
      .filter((line) => line.endsWith(' .'))
      .map((line) => {
        const [id, worker, handler, ...values] = line.slice(0, -' .'.length).split(' ');
        return { id: id!, worker: Number(worker), handler: Number(handler), values: values.map(Number) };
      });
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
