/** Which rows of a settled batch are sampled, and where they lie in it. Pure: the same rows, whoever asks and however often. */
import type { Outcome, RowError, Slice } from '../../shared/domain/call.ts';
import { BugError } from '../../shared/errors/sluice-error.ts';

/** Rows of one call that follow each other in the batch. */
export type SampledRun = {
  readonly callId: number;
  /** Of the call, the first one. */
  readonly row: number;
  readonly count: number;
  /** Of the batch. */
  readonly input: number;
  /** Of the batch's output; -1: there is none. */
  readonly output: number;
  /** null: they are ok. */
  readonly error: RowError | null;
};

const HASHES = 2 ** 32;
/** The golden ratio in 32 bits: neighbours are far apart after it. */
const STEP = 0x9e3779b9;

/** MurmurHash3's finalizer: every bit of the input changes every bit of the answer half the time. */
const mixed = (bits: number): number => {
  let hash = bits ^ (bits >>> 16);
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35);
  return hash ^ (hash >>> 16);
};

const callHash = (callId: number): number =>
  mixed((mixed((callId + STEP) | 0) + Math.imul(Math.floor(callId / HASHES), STEP)) | 0);

const hashIn = (call: number, row: number): number => mixed((call + Math.imul(row + 1, STEP)) | 0) >>> 0;

/** From 0 to 2³² − 1, evenly. A row is sampled when it is below `rate` · 2³²: a higher rate samples the same rows and more. */
export const rowHash = (callId: number, row: number): number => hashIn(callHash(callId), row);

/**
 * The settled rows in the batch's order; what runs again is none of them.
 * @param slices the batch's, whose rows follow each other in input and output
 * @param outcomes in the same order
 */
export const settledRuns = (
  slices: readonly Slice[],
  outcomes: readonly Outcome[],
): readonly SampledRun[] => {
  const runs: SampledRun[] = [];
  let at = 0;
  let start = 0;
  for (const outcome of outcomes) {
    while (at < slices.length && !holds(slices[at]!, outcome)) {
      start += slices[at]!.count;
      at += 1;
    }
    const slice = slices[at];
    if (slice === undefined)
      throw new BugError(`row ${outcome.from} of call ${outcome.callId} was settled, and not leased`);
    if (outcome.state !== 'ok' && outcome.state !== 'failed') continue;
    const { callId, from: row, count } = outcome;
    const place = { callId, row, count, input: start + row - slice.from };
    runs.push(
      outcome.state === 'ok'
        ? { ...place, output: outcome.outputRow, error: null }
        : { ...place, output: -1, error: outcome.error },
    );
  }
  return runs;
};

const holds = (slice: Slice, { callId, from }: Slice): boolean =>
  slice.callId === callId && from >= slice.from && from < slice.from + slice.count;

/** At the rate 1 the runs themselves. */
export const sampledRuns = (runs: readonly SampledRun[], rate: number): readonly SampledRun[] => {
  if (rate >= 1) return runs;
  const limit = rate * HASHES;
  const sampled: SampledRun[] = [];
  for (const run of runs) {
    const call = callHash(run.callId);
    for (let i = 0; i < run.count; ) {
      const first = i;
      while (i < run.count && hashIn(call, run.row + i) < limit) i += 1;
      if (i > first) sampled.push(partOf(run, first, i - first));
      else i += 1;
    }
  }
  return sampled;
};

/** Rows [first, first + count) of a run. */
const partOf = (run: SampledRun, first: number, count: number): SampledRun => ({
  ...run,
  row: run.row + first,
  count,
  input: run.input + first,
  output: run.output < 0 ? -1 : run.output + first,
});

export const rowsIn = (runs: readonly SampledRun[]): number =>
  runs.reduce((rows, { count }) => rows + count, 0);

/** The same rows in parts of at most `rowsMax`. */
export const cutRuns = function* (
  runs: readonly SampledRun[],
  rowsMax: number,
): Generator<readonly SampledRun[], void, undefined> {
  let part: SampledRun[] = [];
  let rows = 0;
  for (const run of runs)
    for (let first = 0; first < run.count; ) {
      const count = Math.min(run.count - first, rowsMax - rows);
      part.push(partOf(run, first, count));
      rows += count;
      first += count;
      if (rows < rowsMax) continue;
      yield part;
      [part, rows] = [[], 0];
    }
  if (rows > 0) yield part;
};
