/** What `sluice run` does: chunks of the input in flight, parts on disk, the output written in row order beside. */
import PQueue from 'p-queue';
import type { Sluice } from '../../sdk/index.ts';
import { errorTexts, selectColumns } from '../../sdk/table.ts';
import { openStream } from '../../shared/arrow/index.ts';
import { watchWaiting } from '../call/waiting-notice.ts';
import { EXIT_INTERRUPTED, UsageError } from '../failure.ts';
import { ChunkCalls } from './chunk-calls.ts';
import { type ColumnPlan, planColumns } from './column-plan.ts';
import { checkOutput } from './output-file.ts';
import { OutputWriter } from './output-writer.ts';
import { partOf } from './part.ts';
import { digestOf, Parts } from './parts.ts';
import { makeProgress } from './progress.ts';
import { openSource, type RowSource } from './row-source.ts';
import { INTERRUPTED, runEnd } from './run-end.ts';

export type RunRequest = {
  readonly functionName: string;
  readonly input: string;
  readonly output: string;
  readonly columns: readonly string[];
  readonly keep: readonly string[] | null;
  readonly chunkRows: number;
  readonly concurrentChunks: number;
  readonly onError: string;
  readonly isJson: boolean;
};

/** Whether the run takes whatever columns the input has: by --keep, or because the function takes any. */
const takesAll = ({ keep, columns }: RunRequest, { types }: ColumnPlan): boolean =>
  keep === null || (keep.length === 1 && keep[0] === 'all') || (columns.length === 0 && types.size === 0);

type Counts = { rows: number; rowsRead: number; rowsFailed: number; rowsResumed: number; chunks: number };

class Run {
  readonly #request: RunRequest;
  readonly #source: RowSource;
  readonly #plan: ColumnPlan;
  readonly #parts: Parts;
  readonly #calls: ChunkCalls;
  readonly #version: string;
  readonly #stop: AbortController;
  readonly #writer: OutputWriter;
  readonly #progress;
  readonly counts: Counts = { rows: 0, rowsRead: 0, rowsFailed: 0, rowsResumed: 0, chunks: 0 };

  constructor(
    request: RunRequest,
    source: RowSource,
    plan: ColumnPlan,
    parts: Parts,
    calls: ChunkCalls,
    version: string,
    stop: AbortController,
  ) {
    this.#request = request;
    this.#source = source;
    this.#plan = plan;
    this.#parts = parts;
    this.#calls = calls;
    this.#version = version;
    this.#stop = stop;
    this.#writer = new OutputWriter(parts.path('output.partial'), request.output, (error) =>
      stop.abort(error),
    );
    this.#progress = makeProgress(request.isJson);
  }

  /** A line beside the bar. */
  say(line: string): void {
    this.#progress.say(line);
  }

  async run(): Promise<void> {
    try {
      await this.#submitAll();
      await this.#writer.finish();
      this.#stop.signal.throwIfAborted();
    } catch (error) {
      this.#stop.abort(error);
      await Promise.all([this.#writer.abandon(), this.#calls.cancelInFlight()]);
      throw this.#stop.signal.reason;
    } finally {
      this.#progress.stop();
    }
  }

  async #submitAll(): Promise<void> {
    const { signal } = this.#stop;
    const queue = new PQueue({ concurrency: this.#request.concurrentChunks });
    const columns = [...new Set([...this.#plan.sent.map(({ column }) => column), ...this.#plan.kept])];
    const rows = this.#source.rows({
      columns,
      types: this.#plan.types,
      rowsMax: this.#request.chunkRows,
      isWhole: takesAll(this.#request, this.#plan),
    });
    try {
      for await (const bytes of rows) {
        // One chunk is read ahead; the rest of the input stays in the file.
        await queue.onSizeLessThan(1);
        signal.throwIfAborted();
        const chunk = this.counts.chunks++;
        const fromRow = this.counts.rowsRead;
        this.counts.rowsRead += openStream(bytes).rows;
        queue
          .add(() => this.#chunk(chunk, fromRow, bytes))
          .catch((error: unknown) => this.#stop.abort(error));
      }
    } finally {
      await queue.onIdle();
    }
    signal.throwIfAborted();
  }

  async #chunk(chunk: number, fromRow: number, bytes: Uint8Array): Promise<void> {
    this.#stop.signal.throwIfAborted();
    const isLenient = this.#request.onError === 'null';
    const sent = selectColumns(bytes, this.#plan.sent);
    const keeps = this.#plan.kept.map((column) => ({ column, as: column }));
    const kept = keeps.length === 0 ? null : selectColumns(bytes, keeps);
    const digest = digestOf(
      this.#request.functionName,
      this.#version,
      this.#request.onError,
      sent,
      kept ?? '',
    );
    const name = this.#parts.name(chunk, digest);
    const rows = openStream(sent).rows;
    if (await this.#parts.has(name)) {
      this.counts.rowsResumed += rows;
      const failed = isLenient ? errorTexts(await this.#parts.read(name)).size : 0;
      this.counts.rowsFailed += failed;
    } else {
      const key = `run-${this.#parts.runId}-${chunk}-${digest}`;
      const answer = await this.#calls.answer({ chunk, fromRow, key }, sent);
      this.counts.rowsFailed += answer.rowsFailed;
      await this.#parts.write(name, partOf(kept, answer.bytes, isLenient));
      // The part is on disk.
      await this.#calls.acknowledge(answer.handles);
    }
    this.counts.rows += rows;
    this.#writer.add(chunk, this.#parts.path(name));
    this.#progress.update(this.counts.rows, this.#total());
  }

  #total(): number {
    const share = this.#source.readShare();
    return (
      this.#source.rowsTotal ?? (share > 0 ? Math.round(this.counts.rowsRead / share) : this.counts.rowsRead)
    );
  }
}

/** The first signal stops the run in order; a second one ends the process at once. */
const onInterrupt = (stop: AbortController, say: (line: string) => void): (() => void) => {
  const interrupt = (): void => {
    if (stop.signal.aborted) process.exit(EXIT_INTERRUPTED);
    stop.abort(INTERRUPTED);
    say('Stopping: calls in flight are cancelled; a second signal ends at once.\n');
  };
  process.on('SIGINT', interrupt).on('SIGTERM', interrupt);
  return () => process.off('SIGINT', interrupt).off('SIGTERM', interrupt);
};

const report = (request: RunRequest, version: string, counts: Counts, seconds: number): void => {
  const { rows, rowsFailed, rowsResumed, chunks } = counts;
  const perSecond = Math.round((rows - rowsResumed) / Math.max(seconds, 0.001));
  if (request.isJson) {
    const { functionName, input, output } = request;
    const line = {
      function: functionName,
      version,
      input,
      output,
      rows,
      rows_failed: rowsFailed,
      rows_resumed: rowsResumed,
      chunks,
      seconds: Number(seconds.toFixed(3)),
      rows_per_second: perSecond,
    };
    process.stdout.write(`${JSON.stringify(line)}\n`);
    return;
  }
  const number = (value: number): string => value.toLocaleString('en');
  const resumed = rowsResumed === 0 ? '' : `, ${number(rowsResumed)} of them from the run before`;
  const failed = rowsFailed === 0 ? '' : `; ${number(rowsFailed)} rows failed, see the column "error"`;
  process.stdout.write(
    `${request.output}: ${number(rows)} rows in ${seconds.toFixed(1)} s (${number(perSecond)} rows/s)${resumed}${failed}\n`,
  );
};

const checked = (request: RunRequest): void => {
  checkOutput(request.output, request.input);
  if (request.onError !== 'fail' && request.onError !== 'null')
    throw new UsageError(`--on-error is "${request.onError}"; give fail or null.`);
};

export const runFile = async (client: Sluice, request: RunRequest): Promise<void> => {
  checked(request);
  const begun = performance.now();
  const source = await openSource(request.input);
  const target = client.function(request.functionName);
  const { version, spec } = await target.show();
  const plan = planColumns({
    columns: request.columns,
    keep: request.keep,
    inputs: spec.inputs,
    functionName: request.functionName,
    available: source.columns,
    hasErrors: request.onError === 'null',
  });
  const parts = Parts.open(request.output);
  const stop = new AbortController();
  const calls = new ChunkCalls(target, version, request.onError === 'null', stop.signal);
  const run = new Run(request, source, plan, parts, calls, version, stop);
  const release = onInterrupt(stop, (line) => run.say(line));
  const endWatch = watchWaiting(client, {
    functionName: request.functionName,
    version,
    ending: 'finished rows are kept if you stop',
    say: (line) => run.say(line),
  });
  try {
    await run.run();
    await parts.remove();
  } catch (error) {
    await parts.close();
    throw runEnd(error, run.counts.rows, parts.directory);
  } finally {
    endWatch();
    release();
  }
  report(request, version, run.counts, (performance.now() - begun) / 1000);
};
