/** Sampled rows on their way from the host to the thread that writes them. */
import type { FieldJson, TypeJson } from '../../shared/domain/function.ts';
import type { SampledRun } from './sampling.ts';

/** What all rows of a version have in common. */
export type VersionFacts = {
  readonly versionId: number;
  readonly functionName: string;
  readonly group: string;
  readonly model: string;
  readonly modelVersion: number;
  readonly functionVersion: string;
  readonly retentionMs: number;
  readonly flushMs: number;
  readonly inputs: readonly FieldJson[] | null;
  readonly output: TypeJson;
};

/** Of one batch. */
export type Sample = {
  readonly versionId: number;
  readonly rows: number;
  /** What it takes of the room for rows that wait. */
  readonly bytes: number;
  readonly at: number;
  readonly attempt: number;
  readonly batchRows: number;
  readonly handlerMs: number;
  /** Arrow streams of the input's rows, in row order. */
  readonly streams: readonly Uint8Array[];
  /** An Arrow stream of one column; null: no row has one. */
  readonly output: Uint8Array | null;
  readonly runs: readonly SampledRun[];
};

/** Runs as numbers: a batch of a thousand calls has a thousand. */
export type PackedSample = Omit<Sample, 'runs'> & {
  readonly runs: Float64Array;
  readonly errors: readonly { readonly code: string; readonly message: string }[];
};

const MEMBERS = 6;
/** Six numbers on the way, and an object at the end of it. */
export const RUN_BYTES = 100;
/** The call's result has all of it. */
export const MESSAGE_CHARACTERS_MAX = 1000;

export const packedSample = ({ runs, ...sample }: Sample): PackedSample => {
  const numbers = new Float64Array(runs.length * MEMBERS);
  const errors = new Map<SampledRun['error'], number>([[null, -1]]);
  let at = 0;
  for (const { callId, row, count, input, output, error } of runs) {
    let index = errors.get(error);
    if (index === undefined) {
      index = errors.size - 1;
      errors.set(error, index);
    }
    numbers[at++] = callId;
    numbers[at++] = row;
    numbers[at++] = count;
    numbers[at++] = input;
    numbers[at++] = output;
    numbers[at++] = index;
  }
  return {
    ...sample,
    runs: numbers,
    errors: [...errors.keys()]
      .filter((error) => error !== null)
      .map(({ code, message }) => ({ code, message: message.slice(0, MESSAGE_CHARACTERS_MAX) })),
  };
};

export const unpackedSample = ({ runs, errors, ...sample }: PackedSample): Sample => ({
  ...sample,
  runs: Array.from({ length: runs.length / MEMBERS }, (_, i) => {
    const [callId, row, count, input, output, error] = runs.subarray(i * MEMBERS, (i + 1) * MEMBERS);
    return {
      callId: callId!,
      row: row!,
      count: count!,
      input: input!,
      output: output!,
      error: errors[error!] ?? null,
    };
  }),
});
