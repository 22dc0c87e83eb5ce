/** The verb `settle`: the first whose token is current wins, and what it brings must cover the leased rows exactly. */
import { BugError } from '../../errors/sluice-error.ts';
import type { SettleAnswer } from '../ports/queue.ts';
import { diskFull } from './admission.ts';
import { conclude } from './concluding.ts';
import { isNoSpace } from './errors.ts';
import { heldBy } from './leasing.ts';
import type { Ledger } from './ledger.ts';
import type { SettleMessage } from './messages.ts';
import { OUTCOME_WIDTH, PART, SLICE_WIDTH } from './model.ts';

export const settle = (ledger: Ledger, message: SettleMessage): SettleAnswer => {
  const batch = heldBy(ledger, message);
  if (batch === undefined) {
    ledger.count('settle_conflicts');
    return { accepted: false, stale: true };
  }
  checkCover(batch.lease!.slices, message);
  try {
    conclude(ledger, batch, message);
  } catch (error) {
    // A segment that finds no room throws before anything changed; SQLite undoes the whole commit (see recovery).
    if (!isNoSpace(error) || (error as { code?: string }).code === 'ERR_SQLITE_ERROR') throw error;
    throw diskFull(ledger.options.limitBytes);
  }
  return { accepted: true, stale: false };
};

/** n rows in, n outcomes out. */
const checkCover = (leased: readonly number[], message: SettleMessage): void => {
  const { outcomes, continuations, errors, output, batchId } = message;
  for (let at = 0; at < outcomes.length; at += OUTCOME_WIDTH) {
    const state = outcomes[at]!;
    if (state === PART.ok && output === null)
      throw new BugError(`batch ${batchId} settles ok rows without an output`);
    if (state === PART.failed && errors[outcomes[at + 4]!] === undefined) {
      throw new BugError(`batch ${batchId} settles failed rows without an error`);
    }
  }
  if (continuations.length === 0 && isSameOrder(leased, outcomes)) return;
  const given = runsOf(outcomes, OUTCOME_WIDTH, 1);
  for (const part of continuations) given.push(...runsOf(part.slices, SLICE_WIDTH, 0));
  const [want, got] = [joined(runsOf(leased, SLICE_WIDTH, 0)), joined(given)];
  if (want !== got) {
    throw new BugError(
      `outcomes and continuations of batch ${batchId} do not cover its rows: leased ${want}, given ${got}`,
    );
  }
};

/** The usual case: one outcome for each slice, in the same order. */
const isSameOrder = (leased: readonly number[], outcomes: readonly number[]): boolean => {
  if (leased.length / SLICE_WIDTH !== outcomes.length / OUTCOME_WIDTH) return false;
  for (let i = 0, at = 1; i < leased.length; i += SLICE_WIDTH, at += OUTCOME_WIDTH) {
    if (
      leased[i] !== outcomes[at] ||
      leased[i + 1] !== outcomes[at + 1] ||
      leased[i + 2] !== outcomes[at + 2]
    ) {
      return false;
    }
  }
  return true;
};

type Run = readonly [call: number, from: number, count: number];

const runsOf = (numbers: readonly number[], width: number, skip: number): Run[] => {
  const runs: Run[] = [];
  for (let at = skip; at < numbers.length; at += width)
    runs.push([numbers[at]!, numbers[at + 1]!, numbers[at + 2]!]);
  return runs;
};

/** Runs in order, neighbours joined, as text: overlaps and gaps show as a difference. */
const joined = (runs: Run[]): string => {
  const sorted = runs.toSorted((a, b) => a[0] - b[0] || a[1] - b[1]);
  const texts: string[] = [];
  let [call, from, end] = [0, 0, 0];
  const flush = (): void => void (end > from && texts.push(`${call}:${from}-${end}`));
  for (const [nextCall, nextFrom, count] of sorted) {
    if (nextCall === call && nextFrom === end) {
      end += count;
      continue;
    }
    flush();
    [call, from, end] = [nextCall, nextFrom, nextFrom + count];
  }
  flush();
  return texts.join(',');
};
