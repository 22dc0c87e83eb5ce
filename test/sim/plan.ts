/** What one simulation does: the function's limits, how rows behave, and how often workers misbehave. */
import type { Payload } from '../../shared/domain/call.ts';
import type { FunctionSpec } from '../../shared/domain/function.ts';
import type { RunEnd, RunPolicy } from '../../shared/domain/retry.ts';
import type { LeasedBatch } from '../../shared/store/ports/queue.ts';
import { PLAIN_SPEC } from '../support/function-spec.ts';
import type { Random } from './random.ts';

/** A row's value says how it behaves: see `kindOf`. */
export type RowKind = 'good' | 'poison' | 'killer' | 'refused';

export const kindOf = (value: number): RowKind => {
  if (value % 101 === 7) return 'killer';
  if (value % 41 === 5) return 'poison';
  if (value % 53 === 3) return 'refused';
  return 'good';
};

export const answerOf = (value: number): number => value * 2 + 1;

export const payloadOf = (values: readonly number[]): Payload => ({
  kind: 'json',
  text: JSON.stringify([values]),
});

export const valuesOf = (batch: LeasedBatch): number[] => {
  const columns = new Map<number, number[]>();
  for (const call of batch.calls) {
    if (call.payload.kind !== 'json') throw new Error('the simulation sends JSON payloads');
    columns.set(call.callId, (JSON.parse(call.payload.text) as number[][])[0]!);
  }
  return batch.slices.flatMap(({ callId, from, count }) => columns.get(callId)!.slice(from, from + count));
};

export type Plan = {
  readonly versionId: number;
  readonly slots: number;
  readonly policy: RunPolicy;
  readonly silentShare: number;
  readonly releaseShare: number;
  readonly run: (values: readonly number[], random: Random) => RunEnd;
  readonly output: (values: readonly number[]) => Uint8Array;
};

/** Killers first: a process that dies answers nothing. Transient errors come by chance. */
export const runRows = (values: readonly number[], random: Random, transientShare: number): RunEnd => {
  const kinds = values.map(kindOf);
  if (kinds.includes('killer')) {
    return { end: 'crash', error: { code: 'handler_crashed', message: 'signal SIGSEGV' } };
  }
  if (random.chance(transientShare / 4)) {
    return { end: 'timeout', error: { code: 'call_timeout', message: 'ran longer than call_timeout' } };
  }
  if (kinds.includes('poison') || random.chance(transientShare)) {
    return {
      end: 'error',
      error: { code: 'handler_error', message: 'poison', kind: 'ValueError' },
      mro: ['ValueError', 'Exception'],
    };
  }
  const refused = kinds.flatMap((kind, row) =>
    kind === 'refused' ? [{ row, error: { code: 'row_error', message: 'refused' } }] : [],
  );
  return { end: 'ok', refused };
};

export const outputOf = (values: readonly number[]): Uint8Array =>
  new Uint8Array(Float64Array.from(values, answerOf).buffer);

export const readOutput = (bytes: Uint8Array, row: number): number =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getFloat64(row * 8, true);

export const specOf = (random: Random): FunctionSpec => ({
  ...PLAIN_SPEC,
  name: 'double',
  handler: { file: 'double.py', attribute: 'double' },
  inputs: [{ name: 'value', type: 'float64', nullable: false }],
  output: { type: 'float64', nullable: true },
  batching: { sizeRows: random.int(1, 24), durationMs: random.int(1, 200), bytesMax: random.int(40, 4000) },
  retry: {
    ...PLAIN_SPEC.retry,
    retries: random.int(0, 3),
    initialMs: random.int(1, 100),
    multiplier: 2,
    maxMs: 1000,
    jitter: 0.2,
  },
});
