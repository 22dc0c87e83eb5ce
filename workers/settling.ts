/**
 * From an answer to a commit. A handler's failure is decided by shared/domain/retry.ts and spends an attempt; a
 * failure to settle settles again and spends nothing.
 */

import type { FunctionSpec } from '../shared/domain/function.ts';
import { decide, type IsolationTrail, type RunEnd } from '../shared/domain/retry.ts';
import { BugError, SluiceError } from '../shared/errors/sluice-error.ts';
import type { LeasedBatch, SettleAnswer, Settlement } from '../shared/store/ports/queue.ts';
import { outputOf } from './batch-bytes.ts';
import type { BatchRun } from './batch-run.ts';
import type { HandlerAnswer, HandlerOutput } from './handler.ts';

const FIRST_WAIT_MS = 50;
const WAIT_MS_MAX = 5000;

export type Verdict = { readonly run: RunEnd; readonly output: Uint8Array | null };

const invalidOutput = (message: string): Verdict => ({
  run: { end: 'error', error: { code: 'handler_output_invalid', message }, mro: [] },
  output: null,
});

/** Checks an answer against the batch; null: the handler never began. */
export const verdictOf = (run: BatchRun, answer: HandlerAnswer, spec: FunctionSpec): Verdict | null => {
  if (answer.end === 'unstarted') return null;
  try {
    if (run.timedOut) return failureOf(run, timeoutOf(spec), spec, answer.outputs);
    if (answer.end !== 'ok') {
      const { outputs, ...failure } = answer;
      return failureOf(run, failure, spec, outputs);
    }
    const { output, refused } = outputOf(answer.outputs, run.rows, spec);
    return { run: { end: 'ok', refused }, output: refused.length === run.rows ? null : output };
  } catch (error) {
    if (error instanceof SluiceError) return invalidOutput(error.message);
    throw error;
  }
};

type Failure = Exclude<RunEnd, { readonly end: 'ok' }>;

const timeoutOf = ({ callTimeoutMs }: FunctionSpec): Failure => {
  const message = `the handler ran longer than call_timeout (${callTimeoutMs} ms); its process was stopped`;
  return { end: 'timeout', error: { code: 'call_timeout', message } };
};

/** What a generator had yielded is settled, unless the answer is wrong: then it is wrong as a whole. */
const failureOf = (
  run: BatchRun,
  failure: Failure,
  spec: FunctionSpec,
  outputs: readonly HandlerOutput[] = [],
): Verdict => {
  const rows = outputs.reduce((sum, output) => sum + output.rows, 0);
  if (rows === 0 || rows > run.rows || failure.error.code === 'handler_output_invalid')
    return { run: failure, output: null };
  const { output, refused } = outputOf(outputs, rows, spec);
  return {
    run: { ...failure, answered: { rows, refused } },
    output: refused.length === rows ? null : output,
  };
};

export type SettlePolicy = { readonly spec: FunctionSpec; readonly claimsMax: number };

export const settlementOf = (
  run: BatchRun,
  verdict: Verdict,
  { spec, claimsMax }: SettlePolicy,
  trail: IsolationTrail,
): Settlement => {
  const now = Date.now();
  const { leased } = run;
  const hopeless = trailed(leased, verdict.run, trail);
  const policy = { retry: spec.retry, isolation: spec.isolation, claimsMax };
  const decision = decide(leased, policy, verdict.run, { now, random: Math.random(), hopeless });
  return {
    now,
    batchId: leased.batchId,
    token: leased.token,
    outcomes: decision.outcomes,
    output: verdict.output,
    continuations: decision.continuations,
    startedAt: run.startedAt ?? now,
    handlerMs: run.handlerMs,
  };
};

const trailed = (leased: LeasedBatch, end: RunEnd, trail: IsolationTrail): boolean => {
  if (end.end === 'ok' || end.answered !== undefined) trail.succeeded();
  if (end.end === 'error' || end.end === 'timeout') return trail.failed(leased.mode, end.error);
  return false;
};

const pause = (ms: number, stopped: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      stopped.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    stopped.addEventListener('abort', done, { once: true });
  });

/**
 * Tries a verb until the store has answered. Gives up, with null, when the batch is lost or dropped meanwhile, and on
 * a bug, which another try would only repeat: the lease then runs out and costs a claim.
 */
export const untilAnswered = async <T extends SettleAnswer | boolean>(
  run: BatchRun,
  verb: () => Promise<T>,
  onError: (error: unknown) => void,
): Promise<T | null> => {
  for (let wait = FIRST_WAIT_MS; !run.dropped; wait = Math.min(wait * 2, WAIT_MS_MAX)) {
    try {
      return await verb();
    } catch (error) {
      onError(error);
      if (error instanceof BugError) return null;
      await pause(wait, run.abort.signal);
    }
  }
  return null;
};
