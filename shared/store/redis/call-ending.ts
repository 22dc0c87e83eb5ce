/** The verbs that end what is due or unwanted: `expired` and `cancel`. */
import type { Slice } from '../../domain/call.ts';
import { LeaseWatch } from '../../domain/lease-watch.ts';
import { afterLostLease } from '../../domain/retry.ts';
import { SluiceError } from '../../errors/sluice-error.ts';
import type { CancelAnswer, CancelQuery, ExpiredAnswer, ExpiredQuery } from '../ports/queue.ts';
import { packParts, packSlotOutcomes, unpackSlices } from './batch-packing.ts';
import { functionOfId, isFunctionNumber, serialOfId, versionIdOf } from './layout.ts';
import { MODES, pack, unpack } from './packing.ts';
import { bump, dispatchReady, type QueueContext, runScript } from './queue-context.ts';

/** Calls cancelled in one script: some milliseconds, in which all others wait. */
const STEP_CALLS = 500;
/** Buckets of 128 calls that one script looks at: two milliseconds where all their calls have ended (measured: 0.2 s for 10 million). */
const STEP_BUCKETS = 1000;

type Lost = [
  m: number,
  token: string,
  v: number,
  attempts: number,
  claims: number,
  mode: number,
  slices: number[],
];
type ExpiredReply = [
  lost: Lost[],
  leases: number,
  calls: number,
  isCut: number,
  nextAt: number,
  added: number[],
  turn: number,
];

type CancelReply = [calls: number, rows: number, next: number, witnesses: number[]];

/**
 * Others come back to a server that was away within this: the longest back-off between two tries, and a connection that a
 * server takes its time for.
 */
const REACH_MS = 2000;

/**
 * A round of looks waits this long after its first answer for the others: less than what makes a gap in the looks at a
 * function that answered (shared/domain/lease-watch.ts).
 */
const LATE_MS = 250;

/** What the looks at one function carry on, from its taking to its giving up. */
type Looks = {
  readonly watch: LeaseWatch;
  turn: number;
  /** The look that runs; it never fails. */
  running: Promise<void> | null;
  /** Its node of a cluster hangs, or is slow: rounds do not wait for its looks until one has gone through. */
  isLate: boolean;
};

/**
 * What falls due in the functions that this process owns. A batch that became ready before the last look and has no job
 * yet was left by a crash between the two: it is dispatched again.
 *
 * Each function is looked at on its own, one look at a time: a node of a cluster that hangs delays no others' leases.
 */
export class Expiry {
  readonly #context: QueueContext;
  readonly #looks = new Map<number, Looks>();
  /** What looks found that no round has told yet, late ones as well: one answer for each at most. */
  readonly #answers: ExpiredAnswer[] = [];
  /** The first failure of a look that no round has told yet. */
  #failure: { readonly error: unknown } | null = null;

  constructor(context: QueueContext) {
    this.#context = context;
  }

  async expired(query: ExpiredQuery): Promise<ExpiredAnswer> {
    // By a clock that is off nothing is due.
    const isOff = this.#context.clock.fault() !== null;
    const owned = isOff ? [] : this.#context.functions.owned();
    for (const fn of this.#looks.keys()) if (!owned.includes(fn)) this.#looks.delete(fn);
    await this.#round(owned.map((fn) => this.#look(fn, query)));
    const answers = this.#answers.splice(0);
    const isIdle = answers.every(({ leases, calls, more }) => leases + calls === 0 && !more);
    const failure = this.#failure;
    // What the others found is told first.
    if (failure !== null && isIdle) {
      this.#failure = null;
      throw failure.error;
    }
    const times = answers.flatMap(({ nextAt }) => (nextAt === null ? [] : [nextAt]));
    return {
      leases: answers.reduce((sum, { leases }) => sum + leases, 0),
      calls: answers.reduce((sum, { calls }) => sum + calls, 0),
      more: answers.some(({ more }) => more),
      nextAt: times.length === 0 ? null : Math.min(...times),
    };
  }

  /** Waits for the looks of functions that answer in time. */
  async #round(all: readonly Looks[]): Promise<void> {
    const waited = all.filter(({ isLate }) => !isLate);
    if (waited.length === 0) return;
    const running = waited.map((looks) => looks.running);
    await Promise.race(running);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, LATE_MS);
    });
    await Promise.race([Promise.all(running), late]);
    clearTimeout(timer);
    for (const looks of waited) looks.isLate = looks.running !== null;
  }

  /** Begins a look at the function, unless one runs. */
  #look(fn: number, query: ExpiredQuery): Looks {
    const looks = this.#looks.get(fn) ?? {
      watch: new LeaseWatch(REACH_MS),
      turn: 0,
      running: null,
      isLate: false,
    };
    this.#looks.set(fn, looks);
    looks.running ??= this.#expireFunction(fn, looks, query)
      .then((answer) => {
        this.#answers.push(answer);
        looks.isLate = false;
      })
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => {
        looks.running = null;
      });
    return looks;
  }

  async #expireFunction(fn: number, looks: Looks, query: ExpiredQuery): Promise<ExpiredAnswer> {
    const { now, claimsMax, limit, heartbeatMs } = query;
    const context = this.#context;
    // Scores of leases are above 0.
    const mayEndUntil = Math.max(0, looks.watch.mayEndUntil(now, heartbeatMs));
    const run = async (decisions: readonly unknown[]): Promise<ExpiredReply> => {
      const args = [limit, pack(decisions), looks.turn, mayEndUntil];
      const reply = unpack<ExpiredReply>(await runScript<Buffer>(context, 'expired', fn, now, args));
      await dispatchReady(context, fn, reply[5]);
      return reply;
    };
    const first = await run([]);
    looks.turn = first[6];
    looks.watch.looked(now);
    const last = first[0].length === 0 ? first : await run(await this.#decide(fn, first[0], claimsMax));
    const [, leases, calls, isCut, nextAt] = last;
    bump(context, 'leases_lost', leases);
    const more = isCut === 1 || (last !== first && first[3] === 1);
    return { leases, calls, more, nextAt: nextAt === 0 ? null : nextAt };
  }

  #decide(fn: number, lost: readonly Lost[], claimsMax: number): Promise<unknown[]> {
    const deciding = lost.map(async ([m, token, v, attempts, claims, mode, numbers]) => {
      const slices: Slice[] = unpackSlices(fn, numbers);
      const facts = await this.#context.functions.version(versionIdOf(fn, v));
      const run = { slices, attempts, claims, mode: MODES[mode]! };
      const decision = afterLostLease(run, claimsMax, facts?.isolation);
      const { outcomes, errors } = packSlotOutcomes(fn, decision.outcomes);
      return [m, token, outcomes, errors, packParts(fn, decision.continuations)];
    });
    return Promise.all(deciding);
  }
}

export const cancel = async (context: QueueContext, query: CancelQuery): Promise<CancelAnswer> => {
  const { now } = query;
  if ('callId' in query) {
    const fn = functionOfId(query.callId);
    if (!isFunctionNumber(fn)) return { calls: 0, rows: 0 };
    const n = serialOfId(query.callId);
    return cancelSpan(context, fn, now, n, n);
  }
  const fn = await context.functions.number(query.functionName);
  if (fn === undefined)
    throw new SluiceError('function_not_found', `There is no function "${query.functionName}".`);
  // Calls that are admitted after it began are not its business.
  const [highest] = await runScript<number[]>(context, 'call', fn, now, []);
  return cancelSpan(context, fn, now, 1, highest!);
};

/**
 * Calls are found by their own numbers, wherever their rows are: a batch that splits meanwhile takes other numbers than those
 * that a list of batches told.
 */
const cancelSpan = async (
  context: QueueContext,
  fn: number,
  now: number,
  first: number,
  last: number,
): Promise<CancelAnswer> => {
  const sum = { calls: 0, rows: 0 };
  let witnesses: number[] = [];
  for (let from = first; from > 0; ) {
    const args = [from, last, STEP_CALLS, STEP_BUCKETS, first, pack(witnesses)];
    const reply = await runScript<CancelReply>(context, 'cancel', fn, now, args);
    sum.calls += reply[0];
    sum.rows += reply[1];
    from = reply[2];
    // With them a step need not read batches again that are still in use.
    witnesses = reply[3];
  }
  return sum;
};
