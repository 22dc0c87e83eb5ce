import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Outcome, Slice } from '../../../../shared/domain/call.ts';
import { decide } from '../../../../shared/domain/retry.ts';
import {
  cutRuns,
  rowHash,
  rowsIn,
  type SampledRun,
  sampledRuns,
  settledRuns,
} from '../../../../workers/inference-log/sampling.ts';
import { PLAIN_SPEC } from '../../../support/function-spec.ts';

const error = { code: 'handler_error', message: 'no' };
const ok = (callId: number, from: number, count: number, outputRow: number): Outcome => ({
  ...{ callId, from, count, outputRow },
  state: 'ok',
});
const rowsOf = (runs: readonly SampledRun[]) =>
  runs.flatMap(({ callId, row, count, input, output, error }) =>
    Array.from({ length: count }, (_, i) => ({
      ...{ callId, row: row + i, input: input + i, output: output < 0 ? -1 : output + i, error },
    })),
  );

describe('the hash of a row', () => {
  it('is the same for ever: what is sampled of a call does not change with a release', () => {
    const rows = [
      [1, 0],
      [1, 1],
      [2, 0],
      [2 ** 32, 0],
      [2 ** 40 + 7, 999_999],
    ] as const;
    expect(rows.map(([call, row]) => rowHash(call, row))).toEqual([
      3640910242, 2582129111, 3719458838, 1422740206, 627412313,
    ]);
  });

  it('is even over the rows of a call, and over calls of one row', () => {
    const share = (count: number, hash: (i: number) => number, rate: number) =>
      Array.from({ length: count }, (_, i) => hash(i)).filter((value) => value < rate * 2 ** 32).length /
      count;
    for (const rate of [0.01, 0.5]) {
      const spread = 5 * Math.sqrt((rate * (1 - rate)) / 100_000);
      expect(Math.abs(share(100_000, (row) => rowHash(17, row), rate) - rate)).toBeLessThan(spread);
      expect(Math.abs(share(100_000, (call) => rowHash(call, 0), rate) - rate)).toBeLessThan(spread);
      expect(Math.abs(share(100_000, (call) => rowHash(2 ** 33 + call, 3), rate) - rate)).toBeLessThan(
        spread,
      );
    }
  });
});

describe('the settled rows of a batch', () => {
  const slices: readonly Slice[] = [
    { callId: 7, from: 10, count: 3 },
    { callId: 8, from: 0, count: 1 },
    { callId: 7, from: 13, count: 2 },
  ];

  it('lie where their slices lie, with their outputs and errors', () => {
    const outcomes: Outcome[] = [
      ok(7, 10, 1, 0),
      { callId: 7, from: 11, count: 1, state: 'failed', error },
      ok(7, 12, 1, 2),
      { callId: 8, from: 0, count: 1, state: 'cancelled' },
      ok(7, 13, 2, 4),
    ];
    expect(rowsOf(settledRuns(slices, outcomes))).toEqual([
      { callId: 7, row: 10, input: 0, output: 0, error: null },
      { callId: 7, row: 11, input: 1, output: -1, error },
      { callId: 7, row: 12, input: 2, output: 2, error: null },
      { callId: 7, row: 13, input: 4, output: 4, error: null },
      { callId: 7, row: 14, input: 5, output: 5, error: null },
    ]);
  });

  it('are none of those that run again, and all of them once at the end, however a batch is split', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 4 })), {
          minLength: 1,
          maxLength: 6,
        }),
        fc.uniqueArray(fc.integer({ min: 0, max: 23 })),
        (given, guilty) => {
          const next = new Map<number, number>();
          const all = given.map(([callId, count]): Slice => {
            const from = next.get(callId) ?? 0;
            next.set(callId, from + count);
            return { callId, from, count };
          });
          const isGuilty = (callId: number, row: number) => guilty.includes((callId * 7 + row) % 24);
          const seen: string[] = [];
          const policy = {
            retry: { ...PLAIN_SPEC.retry, retries: 1 },
            isolation: 'bisect' as const,
            claimsMax: 5,
          };
          const run = (batch: Parameters<typeof decide>[0]): void => {
            const rows = batch.slices.flatMap(({ callId, from, count }) =>
              Array.from({ length: count }, (_, i) => ({ callId, row: from + i })),
            );
            const fails = rows.some(({ callId, row }) => isGuilty(callId, row));
            const { outcomes, continuations } = decide(
              batch,
              policy,
              fails ? { end: 'error', error, mro: [] } : { end: 'ok', refused: [] },
              { now: 0, random: 0, hopeless: false },
            );
            for (const settled of rowsOf(settledRuns(batch.slices, outcomes))) {
              expect(rows[settled.input]).toEqual({ callId: settled.callId, row: settled.row });
              expect(settled.output).toBe(settled.error === null ? settled.input : -1);
              expect(settled.error !== null).toBe(isGuilty(settled.callId, settled.row));
              seen.push(`${settled.callId} ${settled.row}`);
            }
            for (const part of continuations) run(part);
          };
          run({ slices: all, attempts: 0, claims: 0, mode: 'fresh' });
          const wanted = all.flatMap(({ callId, from, count }) =>
            Array.from({ length: count }, (_, i) => `${callId} ${from + i}`),
          );
          expect(seen.toSorted()).toEqual(wanted.toSorted());
        },
      ),
    );
  });

  it('say that an outcome of no slice is a bug', () => {
    expect(() => settledRuns(slices, [ok(9, 0, 1, 0)])).toThrow('was settled, and not leased');
  });
});

describe('a sample', () => {
  const runs = settledRuns(
    [
      { callId: 3, from: 100, count: 5000 },
      { callId: 4, from: 0, count: 5000 },
    ],
    [ok(3, 100, 5000, 0), { callId: 4, from: 0, count: 5000, state: 'failed', error }],
  );

  it('has the rows whose hash is below the rate, wherever they lie', () => {
    for (const rate of [0.001, 0.3, 0.999]) {
      const wanted = rowsOf(runs).filter(({ callId, row }) => rowHash(callId, row) < rate * 2 ** 32);
      expect(rowsOf(sampledRuns(runs, rate))).toEqual(wanted);
    }
    expect(sampledRuns(runs, 1)).toBe(runs);
  });

  it('at a higher rate has the same rows and more', () => {
    const key = ({ callId, row }: { callId: number; row: number }) => `${callId} ${row}`;
    const few = rowsOf(sampledRuns(runs, 0.1)).map(key);
    const many = new Set(rowsOf(sampledRuns(runs, 0.2)).map(key));
    expect(few.length).toBeGreaterThan(0);
    expect(few.filter((row) => !many.has(row))).toEqual([]);
  });

  it('is cut into parts of so many rows', () => {
    const sampled = sampledRuns(runs, 0.5);
    const parts = [...cutRuns(sampled, 300)];
    expect(parts.flatMap(rowsOf)).toEqual(rowsOf(sampled));
    expect(parts.slice(0, -1).map(rowsIn)).toEqual(parts.slice(0, -1).map(() => 300));
    expect([...cutRuns([], 10)]).toEqual([]);
  });
});
