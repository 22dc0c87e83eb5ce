/**
 * What a batch's run becomes: outcomes for rows that are done, continuations for rows that run again. Pure.
 *
 *   fresh ──error, timeout──► retry ──…──► retry            after a back-off, while attempts ≤ retries
 *     │ retries spent, or a terminal error     │
 *     └──────────────► isolate (two halves) ◄──┘            each runs once; a half that fails splits again
 *                         └─► a single row that fails is failed
 *   rows that a failing generator had answered before are settled; the rest goes on as above
 *   any ──crash, lost lease──► the same rows, claims + 1    no attempt; while claims ≤ claimsMax
 *                         └─► isolate (row by row) ─► a row that still kills is quarantined
 */
import type { BatchMode, Outcome, RowError, Slice } from './call.ts';
import type { Isolation, RetryPolicy } from './function.ts';
import { halves, rowByRow, rowsOf, splitAt } from './slices.ts';

/** The part of a leased batch that decides; `attempts` and `claims` as before this run. */
export type RunBatch = {
  readonly slices: readonly Slice[];
  readonly attempts: number;
  readonly claims: number;
  readonly mode: BatchMode;
};

export type RunPolicy = {
  readonly retry: RetryPolicy;
  readonly isolation: Isolation;
  readonly claimsMax: number;
};

/** A row of the batch (counted from 0) that the handler refused by itself. */
export type RefusedRow = { readonly row: number; readonly error: RowError };

export type AnsweredRows = {
  /** The batch's first rows, which are in the output: sub-batches that a generator had yielded. */
  readonly rows: number;
  readonly refused: readonly RefusedRow[];
};

type Failure =
  /** The handler raised, or answered wrongly. `mro`: the exception's class names, most derived first. */
  | {
      readonly end: 'error';
      readonly error: RowError;
      readonly mro: readonly string[];
      /** Another run would fail alike: no retry, isolation at once. */
      readonly isFinal?: boolean;
      /** The next run is no earlier than this from now. */
      readonly retryAfterMs?: number;
    }
  | { readonly end: 'timeout'; readonly error: RowError }
  /** The process died under the batch: a claim, never an attempt. */
  | { readonly end: 'crash'; readonly error: RowError };

export type RunEnd =
  /** The output has one row for each row of the batch; refused rows are null in it. Refusals come in row order. */
  | { readonly end: 'ok'; readonly refused: readonly RefusedRow[] }
  /** `answered`: what is settled although the run failed; absent: nothing. */
  | (Failure & { readonly answered?: AnsweredRows });

export type Circumstances = {
  readonly now: number;
  /** In [0, 1). */
  readonly random: number;
  /** Isolation keeps failing alike and nothing of the version has succeeded meanwhile (see IsolationTrail). */
  readonly hopeless: boolean;
};

/** As `Continuation` of the queue port; `notBefore` 0 is at once. */
export type Part = RunBatch & { readonly notBefore: number };

/** Outcomes and continuations together cover the batch's slices exactly once. */
export type Decision = { readonly outcomes: readonly Outcome[]; readonly continuations: readonly Part[] };

/** The wait before the run that follows attempt number `attempts` (1 is the first), in milliseconds. */
export const backOffMs = (policy: RetryPolicy, attempts: number, random: number): number => {
  const full = Math.min(policy.initialMs * policy.multiplier ** Math.max(attempts - 1, 0), policy.maxMs);
  return Math.round(full * (1 - policy.jitter * random));
};

/** An exception that the policy excludes: named by `terminalOn`, or missing from a `retryOn` that is not empty. */
export const isTerminal = (policy: RetryPolicy, mro: readonly string[]): boolean =>
  mro.some((kind) => policy.terminalOn.includes(kind)) ||
  (policy.retryOn.length > 0 && !mro.some((kind) => policy.retryOn.includes(kind)));

const failAll = (slices: readonly Slice[], error: RowError): Decision => ({
  outcomes: slices.map((slice) => ({ ...slice, state: 'failed', error })),
  continuations: [],
});

const quarantined = (error: RowError): RowError => ({
  ...error,
  code: 'row_quarantined',
  message: `the row was tried alone and its process died again (${error.message})`,
});

/** A run whose process died. Spends a claim; past the limit, the rows are tried one by one. */
const afterCrash = (batch: RunBatch, claimsMax: number, isolation: Isolation, error: RowError): Decision => {
  const claims = batch.claims + 1;
  const again = { attempts: batch.attempts, claims, notBefore: 0 };
  if (claims <= claimsMax) {
    const mode = batch.mode === 'fresh' ? 'retry' : batch.mode;
    return { outcomes: [], continuations: [{ ...again, slices: batch.slices, mode }] };
  }
  if (isolation === 'off') return failAll(batch.slices, error);
  if (batch.mode === 'isolate' && rowsOf(batch.slices) === 1) {
    return failAll(batch.slices, quarantined(error));
  }
  const rows = rowByRow(batch.slices);
  return { outcomes: [], continuations: rows.map((row) => ({ ...again, slices: [row], mode: 'isolate' })) };
};

/** What a lost lease becomes, for the store's `expired`: nobody answered, so it counts as a crash. */
export const afterLostLease = (
  batch: RunBatch,
  claimsMax: number,
  isolation: Isolation = 'bisect',
): Decision =>
  afterCrash(batch, claimsMax, isolation, {
    code: 'handler_crashed',
    message: `no worker answered for the batch: its lease was lost ${batch.claims + 1} times`,
  });

const afterFailure = (
  batch: RunBatch,
  policy: RunPolicy,
  failure: { readonly error: RowError; readonly terminal: boolean; readonly retryAfterMs: number },
  { now, random, hopeless }: Circumstances,
): Decision => {
  const attempts = batch.attempts + 1;
  const again = { attempts, claims: batch.claims };
  const { retryAfterMs } = failure;
  const waited = now + Math.max(backOffMs(policy.retry, attempts, random), retryAfterMs);
  if (batch.mode !== 'isolate' && !failure.terminal && attempts <= policy.retry.retries) {
    const part: Part = { ...again, slices: batch.slices, mode: 'retry', notBefore: waited };
    return { outcomes: [], continuations: [part] };
  }
  if (policy.isolation === 'off' || rowsOf(batch.slices) === 1) return failAll(batch.slices, failure.error);
  const notBefore = hopeless || retryAfterMs > 0 ? waited : 0;
  const parts = halves(batch.slices).map(
    (slices): Part => ({ ...again, slices, mode: 'isolate', notBefore }),
  );
  return { outcomes: [], continuations: parts };
};

/** Row i of the batch is row i of the output, so an `ok` run starts at its own number. */
const settled = (slices: readonly Slice[], refused: readonly RefusedRow[]): Outcome[] => {
  const outcomes: Outcome[] = [];
  let row = 0;
  let next = 0;
  for (const { callId, from, count } of slices) {
    const end = row + count;
    const first = from - row;
    while (row < end) {
      const refusal = refused[next];
      const stop = Math.min(refusal?.row ?? end, end);
      if (row < stop) {
        outcomes.push({ callId, from: first + row, count: stop - row, state: 'ok', outputRow: row });
      }
      row = stop;
      if (refusal && row < end) {
        outcomes.push({ callId, from: first + row, count: 1, state: 'failed', error: refusal.error });
        row += 1;
        next += 1;
      }
    }
  }
  return outcomes;
};

/**
 * Decides what the run becomes. Refused rows are final: the handler looked at them and said no, so only an
 * exception, a timeout or a crash is worth another run. A timeout is terminal only when `terminalOn` names `TimeoutError`.
 */
export const decide = (
  batch: RunBatch,
  policy: RunPolicy,
  run: RunEnd,
  circumstances: Circumstances,
): Decision => {
  if (run.end === 'ok') return { outcomes: settled(batch.slices, run.refused), continuations: [] };
  if (run.answered === undefined) return afterRun(batch, policy, run, circumstances);
  const [answered, rest] = splitAt(batch.slices, run.answered.rows);
  const outcomes = settled(answered, run.answered.refused);
  if (rest.length === 0) return { outcomes, continuations: [] };
  const decision = afterRun({ ...batch, slices: rest }, policy, run, circumstances);
  return { ...decision, outcomes: [...outcomes, ...decision.outcomes] };
};

const afterRun = (
  batch: RunBatch,
  policy: RunPolicy,
  run: Failure,
  circumstances: Circumstances,
): Decision => {
  if (run.end === 'crash') return afterCrash(batch, policy.claimsMax, policy.isolation, run.error);
  const terminal =
    run.end === 'timeout'
      ? policy.retry.terminalOn.includes('TimeoutError')
      : run.isFinal === true || isTerminal(policy.retry, run.mro);
  const retryAfterMs = run.end === 'error' ? (run.retryAfterMs ?? 0) : 0;
  return afterFailure(batch, policy, { error: run.error, terminal, retryAfterMs }, circumstances);
};

/**
 * Tells a dead dependency from guilty rows: isolated batches of one version that fail with the same kind of error, one
 * after another, with no success in between. A host keeps one for each version; losing it costs one unslowed split.
 */
export class IsolationTrail {
  #alike: string | null = null;

  succeeded(): void {
    this.#alike = null;
  }

  /** Notes a failed run; true when an isolated run before it failed alike and nothing has succeeded since. */
  failed(mode: BatchMode, error: RowError): boolean {
    if (mode !== 'isolate') return false;
    const kind = `${error.code} ${error.kind ?? ''}`;
    const hopeless = this.#alike === kind;
    this.#alike = kind;
    return hopeless;
  }
}
