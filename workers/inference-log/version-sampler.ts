/** Takes sampled rows out of settled batches of one version, on the host's thread: a few copies of buffers, and no more. */
import { setImmediate as turn } from 'node:timers/promises';
import { pickedStream } from '../../shared/arrow/index.ts';
import type { LeasedBatch, Settlement } from '../../shared/store/ports/queue.ts';
import { MESSAGE_CHARACTERS_MAX, RUN_BYTES, type Sample, type VersionFacts } from './sample.ts';
import { cutRuns, rowsIn, type SampledRun, sampledRuns, settledRuns } from './sampling.ts';

/** Of a batch's rows; above it copying the whole batch costs less than picking the rows of a column one by one. */
const PICKED_SHARE_MAX = 0.1;
/** Picked at once: some hundred microseconds for a few columns. */
const PICKED_ROWS = 1000;
/** Copied at once: less than a millisecond. */
const COPIED_BYTES = 2 * 2 ** 20;
/** Looked at in one go: a millisecond. */
const HASHED_ROWS = 10_000;
/** What else is told of a batch beside its columns and runs. */
const OVERHEAD_BYTES = 256;

export type SettledBatch = {
  readonly leased: LeasedBatch;
  readonly rows: number;
  /** As the handler got them. */
  readonly parts: readonly Uint8Array[];
  readonly settlement: Pick<Settlement, 'outcomes' | 'output' | 'handlerMs'>;
  readonly at: number;
};

/** What a sampler does with what it took. */
export type SampleSink = {
  /** False: there is no room for so many bytes. */
  readonly reserve: (bytes: number) => boolean;
  /** What was reserved is not taken after all. */
  readonly release: (bytes: number) => void;
  readonly copying: (copy: Promise<void>) => void;
  readonly add: (sample: Sample) => void;
  readonly flush: () => void;
  readonly lose: (rows: number, reason: string, error?: unknown) => void;
};

export class VersionSampler {
  readonly #facts: VersionFacts;
  readonly #rate: number;
  readonly #sink: SampleSink;
  readonly #copying = new Set<Promise<void>>();

  constructor(facts: VersionFacts, rate: number, sink: SampleSink) {
    this.#facts = facts;
    this.#rate = rate;
    this.#sink = sink;
  }

  /** Never throws. The batch's memory is not needed any more in a moment. */
  take(batch: SettledBatch): void {
    const copy = this.#take(batch).finally(() => this.#copying.delete(copy));
    this.#copying.add(copy);
    this.#sink.copying(copy);
  }

  /** What was taken becomes files without waiting for more: the version does not run here any more. */
  flush(): void {
    void Promise.all(this.#copying).then(() => this.#sink.flush());
  }

  /** Never rejects. */
  async #take(batch: SettledBatch): Promise<void> {
    let rows = 0;
    try {
      const settled = settledRuns(batch.leased.slices, batch.settlement.outcomes);
      const isShort = this.#rate >= 1 || rowsIn(settled) <= HASHED_ROWS;
      const runs = isShort ? sampledRuns(settled, this.#rate) : await this.#sampledInTurns(settled);
      rows = rowsIn(runs);
      if (rows === 0) return;
      await (rows > batch.rows * PICKED_SHARE_MAX ? this.#takeWhole(batch, runs) : this.#pick(batch, runs));
    } catch (error) {
      this.#sink.lose(rows, 'they could not be taken', error);
    }
  }

  async #sampledInTurns(settled: readonly SampledRun[]): Promise<readonly SampledRun[]> {
    const sampled: (readonly SampledRun[])[] = [];
    for (const runs of cutRuns(settled, HASHED_ROWS)) {
      if (sampled.length > 0) await turn();
      sampled.push(sampledRuns(runs, this.#rate));
    }
    return sampled.flat();
  }

  async #takeWhole(batch: SettledBatch, runs: readonly SampledRun[]): Promise<void> {
    const { settlement, parts } = batch;
    const hasOutput = runs.some(({ output }) => output >= 0);
    const output = hasOutput ? settlement.output : null;
    const bytes = bytesOf([...parts, output], runs);
    if (!this.#reserve(bytes, runs)) return;
    try {
      const streams: Uint8Array[] = [];
      for (const part of parts) streams.push(await ownBytes(part));
      this.#add(batch, { runs, streams, output: output && (await ownBytes(output)), bytes });
    } catch (error) {
      this.#sink.release(bytes);
      throw error;
    }
  }

  async #pick(batch: SettledBatch, all: readonly SampledRun[]): Promise<void> {
    let isFirst = true;
    for (const runs of cutRuns(all, PICKED_ROWS)) {
      if (!isFirst) await turn();
      isFirst = false;
      try {
        this.#pickSome(batch, runs);
      } catch (error) {
        this.#sink.lose(rowsIn(runs), 'they could not be picked', error);
      }
    }
  }

  #pickSome(batch: SettledBatch, runs: readonly SampledRun[]): void {
    const { parts, settlement } = batch;
    const places = runs.map(({ input, count }) => ({ from: input, count }));
    const input = pickedStream({ streams: parts, runs: places }, this.#facts.inputs);
    const answered = runs.filter(({ output }) => output >= 0);
    const output =
      settlement.output === null || answered.length === 0
        ? null
        : pickedStream(
            {
              streams: [settlement.output],
              runs: answered.map(({ output: from, count }) => ({ from, count })),
            },
            null,
          );
    const bytes = bytesOf([input, output], runs);
    if (!this.#reserve(bytes, runs)) return;
    try {
      this.#add(batch, { runs: renumbered(runs), streams: [input], output, bytes });
    } catch (error) {
      this.#sink.release(bytes);
      throw error;
    }
  }

  #reserve(bytes: number, runs: readonly SampledRun[]): boolean {
    if (this.#sink.reserve(bytes)) return true;
    this.#sink.lose(rowsIn(runs), 'there is no room for so many bytes beside what waits to be written');
    return false;
  }

  #add(
    { leased, rows, settlement, at }: SettledBatch,
    taken: Pick<Sample, 'runs' | 'streams' | 'output' | 'bytes'>,
  ): void {
    this.#sink.add({
      ...taken,
      ...{ versionId: this.#facts.versionId, rows: rowsIn(taken.runs), at },
      ...{ attempt: leased.attempts + 1, batchRows: rows, handlerMs: settlement.handlerMs },
    });
  }
}

/** What a sample holds of memory. A message that many rows share is one. */
const bytesOf = (columns: readonly (Uint8Array | null)[], runs: readonly SampledRun[]): number => {
  const errors = new Set(runs.map(({ error }) => error));
  errors.delete(null);
  return (
    OVERHEAD_BYTES +
    columns.reduce((sum, bytes) => sum + (bytes?.byteLength ?? 0), 0) +
    runs.length * RUN_BYTES +
    [...errors].reduce((sum, error) => sum + 2 * Math.min(error!.message.length, MESSAGE_CHARACTERS_MAX), 0)
  );
};

/** As they lie in streams that have these rows alone. */
const renumbered = (runs: readonly SampledRun[]): readonly SampledRun[] => {
  let [input, output] = [0, 0];
  return runs.map((run) => {
    const moved = { ...run, input, output: run.output < 0 ? -1 : output };
    input += run.count;
    if (run.output >= 0) output += run.count;
    return moved;
  });
};

/** Shared memory as it is, unless it is a small part of it; else a copy, made in steps that hold nobody up. */
const ownBytes = async (bytes: Uint8Array): Promise<Uint8Array> => {
  const { buffer, byteLength } = bytes;
  if (buffer instanceof SharedArrayBuffer && 2 * byteLength >= buffer.byteLength) return bytes;
  const own = new Uint8Array(byteLength);
  for (let at = 0; at < byteLength; at += COPIED_BYTES) {
    if (at > 0) await turn();
    own.set(bytes.subarray(at, at + COPIED_BYTES), at);
  }
  return own;
};
