import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RowError, Slice } from '../../../shared/domain/call.ts';
import type { RetryPolicy } from '../../../shared/domain/function.ts';
import {
  afterLostLease,
  backOffMs,
  type Decision,
  decide,
  IsolationTrail,
  isTerminal,
  type Part,
  type RunBatch,
  type RunEnd,
  type RunPolicy,
} from '../../../shared/domain/retry.ts';
import { rowsOf } from '../../../shared/domain/slices.ts';

const retry: RetryPolicy = {
  retries: 2,
  initialMs: 100,
  multiplier: 2,
  maxMs: 1000,
  jitter: 0.5,
  retryOn: [],
  terminalOn: ['ValueError'],
};
const policy: RunPolicy = { retry, isolation: 'bisect', claimsMax: 2 };
const calm = { now: 1000, random: 0, hopeless: false };
const slices: Slice[] = [
  { callId: 1, from: 10, count: 3 },
  { callId: 2, from: 0, count: 1 },
];
const fresh: RunBatch = { slices, attempts: 0, claims: 0, mode: 'fresh' };
const boom: RowError = { code: 'handler_error', message: 'boom', kind: 'RuntimeError' };
const failed: RunEnd = { end: 'error', error: boom, mro: ['RuntimeError', 'Exception'] };
const crashed: RunEnd = { end: 'crash', error: { code: 'handler_crashed', message: 'SIGSEGV' } };

/** Every row of a decision, as `call:row`, with no row twice. */
const covered = ({ outcomes, continuations }: Decision): string[] =>
  [...outcomes, ...continuations.flatMap((part) => part.slices)]
    .flatMap(({ callId, from, count }) => Array.from({ length: count }, (_, at) => `${callId}:${from + at}`))
    .sort();

describe('a run that succeeded', () => {
  it('settles rows at their place in the output, refused ones apart', () => {
    const error: RowError = { code: 'row_error', message: 'no' };
    const decision = decide(
      fresh,
      policy,
      {
        end: 'ok',
        refused: [
          { row: 1, error },
          { row: 3, error },
        ],
      },
      calm,
    );
    expect(decision).toEqual({
      outcomes: [
        { callId: 1, from: 10, count: 1, state: 'ok', outputRow: 0 },
        { callId: 1, from: 11, count: 1, state: 'failed', error },
        { callId: 1, from: 12, count: 1, state: 'ok', outputRow: 2 },
        { callId: 2, from: 0, count: 1, state: 'failed', error },
      ],
      continuations: [],
    });
  });
});

describe('a run that failed', () => {
  it('is retried as itself after a growing wait', () => {
    const first = decide(fresh, policy, failed, calm);
    expect(first).toEqual({
      outcomes: [],
      continuations: [{ slices, attempts: 1, claims: 0, mode: 'retry', notBefore: 1100 }],
    });
    const second = decide(first.continuations[0]!, policy, failed, calm);
    expect(second.continuations).toMatchObject([{ attempts: 2, mode: 'retry', notBefore: 1200 }]);
  });

  it('is halved when its retries are spent', () => {
    const { continuations, outcomes } = decide(
      { ...fresh, attempts: 2, mode: 'retry' },
      policy,
      failed,
      calm,
    );
    expect(outcomes).toEqual([]);
    expect(continuations).toEqual([
      { slices: [{ callId: 1, from: 10, count: 2 }], attempts: 3, claims: 0, mode: 'isolate', notBefore: 0 },
      {
        slices: [
          { callId: 1, from: 12, count: 1 },
          { callId: 2, from: 0, count: 1 },
        ],
        attempts: 3,
        claims: 0,
        mode: 'isolate',
        notBefore: 0,
      },
    ]);
  });

  it('skips the retries but not the isolation when the error is terminal', () => {
    const terminal: RunEnd = { ...failed, mro: ['MyError', 'ValueError', 'Exception'] };
    expect(decide(fresh, policy, terminal, calm).continuations.map(({ mode }) => mode)).toEqual([
      'isolate',
      'isolate',
    ]);
  });

  it('fails a row that stands alone', () => {
    const alone: RunBatch = {
      slices: [{ callId: 1, from: 4, count: 1 }],
      attempts: 3,
      claims: 0,
      mode: 'isolate',
    };
    expect(decide(alone, policy, failed, calm)).toEqual({
      outcomes: [{ callId: 1, from: 4, count: 1, state: 'failed', error: boom }],
      continuations: [],
    });
  });

  it('fails as a whole without isolation', () => {
    const off: RunPolicy = { ...policy, isolation: 'off', retry: { ...retry, retries: 0 } };
    const { outcomes, continuations } = decide(fresh, off, failed, calm);
    expect(continuations).toEqual([]);
    expect(outcomes.map(({ state }) => state)).toEqual(['failed', 'failed']);
  });

  it('waits before the next halves when isolation is hopeless', () => {
    const half: RunBatch = { ...fresh, attempts: 3, mode: 'isolate' };
    const { continuations } = decide(half, policy, failed, { ...calm, hopeless: true });
    expect(continuations.map(({ notBefore }) => notBefore)).toEqual([1800, 1800]);
  });

  it('spends an attempt on a timeout, which only TimeoutError makes terminal', () => {
    const timeout: RunEnd = { end: 'timeout', error: { code: 'call_timeout', message: 'slow' } };
    const choosy = { ...policy, retry: { ...retry, retryOn: ['KeyError'] } };
    expect(decide(fresh, choosy, timeout, calm).continuations).toMatchObject([
      { attempts: 1, mode: 'retry' },
    ]);
    const never = { ...policy, retry: { ...retry, terminalOn: ['TimeoutError'] } };
    expect(decide(fresh, never, timeout, calm).continuations).toHaveLength(2);
  });
});

describe('a crash', () => {
  it('costs a claim and no attempt', () => {
    expect(decide(fresh, policy, crashed, calm)).toEqual({
      outcomes: [],
      continuations: [{ slices, attempts: 0, claims: 1, mode: 'retry', notBefore: 0 }],
    });
  });

  it('past the limit sets every row apart, and quarantines the one that crashes again', () => {
    const { continuations } = decide({ ...fresh, claims: 2 }, policy, crashed, calm);
    expect(continuations).toHaveLength(4);
    expect(continuations.every((part) => part.mode === 'isolate' && rowsOf(part.slices) === 1)).toBe(true);
    const last = decide(continuations[0]!, policy, crashed, calm);
    expect(last.continuations).toEqual([]);
    expect(last.outcomes).toMatchObject([{ callId: 1, from: 10, error: { code: 'row_quarantined' } }]);
  });

  it('is what a lost lease counts as', () => {
    expect(afterLostLease(fresh, 2).continuations).toMatchObject([{ claims: 1, attempts: 0, mode: 'retry' }]);
    expect(afterLostLease({ ...fresh, claims: 2 }, 2).continuations).toHaveLength(4);
    expect(afterLostLease({ ...fresh, claims: 2 }, 2, 'off').outcomes).toMatchObject([
      { state: 'failed', error: { code: 'handler_crashed' } },
      { state: 'failed', error: { code: 'handler_crashed' } },
    ]);
  });
});

describe('policies', () => {
  it('bound the wait from above and below', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 60 }),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        (n, random) => {
          const wait = backOffMs(retry, n, random);
          const full = Math.min(100 * 2 ** (n - 1), 1000);
          expect(wait).toBeLessThanOrEqual(full);
          expect(wait).toBeGreaterThanOrEqual(Math.floor(full * 0.5));
        },
      ),
    );
  });

  it('read class names of the whole line of descent', () => {
    expect(isTerminal(retry, ['Mine', 'ValueError'])).toBe(true);
    expect(isTerminal({ ...retry, retryOn: ['OSError'] }, ['ConnectionError', 'OSError'])).toBe(false);
    expect(isTerminal({ ...retry, retryOn: ['OSError'] }, ['KeyError'])).toBe(true);
    expect(isTerminal({ ...retry, retryOn: ['ValueError'] }, ['ValueError'])).toBe(true);
  });
});

describe('the isolation trail', () => {
  it('sees two isolated runs that fail alike with no success between them', () => {
    const trail = new IsolationTrail();
    expect(trail.failed('retry', boom)).toBe(false);
    expect(trail.failed('isolate', boom)).toBe(false);
    expect(trail.failed('isolate', { ...boom, message: 'another row' })).toBe(true);
    trail.succeeded();
    expect(trail.failed('isolate', boom)).toBe(false);
    expect(trail.failed('isolate', { ...boom, kind: 'KeyError' })).toBe(false);
  });
});

describe('any handler', () => {
  /** Runs a batch to its end against handlers that fail or crash on guilty rows; counts runs. */
  const settle = (batch: RunBatch, end: (part: RunBatch) => RunEnd) => {
    const states = new Map<string, string>();
    const waiting: Part[] = [{ ...batch, notBefore: 0 }];
    for (let runs = 0; waiting.length > 0; runs += 1) {
      if (runs > 5000) throw new Error('it never ends');
      const part = waiting.shift()!;
      const decision = decide(part, policy, end(part), calm);
      expect(covered(decision)).toEqual(covered({ outcomes: [], continuations: [{ ...part }] }));
      waiting.push(...decision.continuations);
      for (const { callId, from, count, state } of decision.outcomes)
        for (let at = 0; at < count; at += 1) {
          expect(states.has(`${callId}:${from + at}`)).toBe(false);
          states.set(`${callId}:${from + at}`, state);
        }
    }
    return states;
  };
  const anyBatch = fc
    .array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 6 })
    .map((counts) => counts.map((count, at): Slice => ({ callId: at, from: at, count })));
  const rowsIn = (part: RunBatch): string[] =>
    covered({ outcomes: [], continuations: [{ ...part, notBefore: 0 }] });

  it('fails the guilty rows, and only them', () => {
    fc.assert(
      fc.property(anyBatch, fc.func(fc.nat(9)), fc.constantFrom(failed, crashed), (list, draw, bad) => {
        const guilty = (row: string): boolean => draw(row) === 0;
        const states = settle({ ...fresh, slices: list }, (part) =>
          rowsIn(part).some(guilty) ? bad : { end: 'ok', refused: [] },
        );
        expect(states.size).toBe(rowsOf(list));
        for (const [row, state] of states) expect(state).toBe(guilty(row) ? 'failed' : 'ok');
      }),
    );
  });
});

describe('a generator that failed after some rows', () => {
  const answered = { rows: 2, refused: [{ row: 1, error: { code: 'row_error', message: 'no' } }] };
  const ok = { callId: 1, from: 10, count: 1, state: 'ok', outputRow: 0 };
  const refused = { callId: 1, from: 11, count: 1, state: 'failed', error: answered.refused[0]?.error };
  const rest = [
    { callId: 1, from: 12, count: 1 },
    { callId: 2, from: 0, count: 1 },
  ];

  it('keeps the answers that came, and retries the rest', () => {
    expect(decide(fresh, policy, { ...failed, answered }, calm)).toEqual({
      outcomes: [ok, refused],
      continuations: [{ slices: rest, attempts: 1, claims: 0, mode: 'retry', notBefore: 1100 }],
    });
    expect(decide(fresh, policy, { ...crashed, answered }, calm)).toEqual({
      outcomes: [ok, refused],
      continuations: [{ slices: rest, attempts: 0, claims: 1, mode: 'retry', notBefore: 0 }],
    });
  });

  it('looks for the guilty row in the rest only', () => {
    const spent: RunBatch = { ...fresh, attempts: 2, mode: 'retry' };
    const { outcomes, continuations } = decide(spent, policy, { ...failed, answered }, calm);
    expect(outcomes).toEqual([ok, refused]);
    expect(continuations.map((part) => [part.slices, part.mode])).toEqual([
      [[rest[0]], 'isolate'],
      [[rest[1]], 'isolate'],
    ]);
    const last = { rows: 3, refused: [] };
    const isolated: RunBatch = { ...spent, mode: 'isolate' };
    expect(decide(isolated, policy, { ...failed, answered: last }, calm).outcomes).toEqual([
      { callId: 1, from: 10, count: 3, state: 'ok', outputRow: 0 },
      { callId: 2, from: 0, count: 1, state: 'failed', error: boom },
    ]);
  });

  it('has nothing to run again when every row was answered', () => {
    const all = { rows: 4, refused: [] };
    const decision = decide(fresh, policy, { ...failed, answered: all }, calm);
    expect(decision.continuations).toEqual([]);
    expect(decision.outcomes.every(({ state }) => state === 'ok')).toBe(true);
    expect(covered(decision)).toHaveLength(4);
  });
});
