/**
 * One ledger for every test that disturbs a server under load: accepted = completed + failed + cancelled + expired +
 * live, row by row. Calls are random: most plain, some cancelled at once, some with a short deadline, some with rows that
 * the handler refuses. Each row's value is its own, so that every answer and every run of a handler names its row.
 */
import { expect } from 'vitest';
import type { Random } from '../sim/random.ts';
import { eventually, type SluiceServer } from './sluice-process.ts';
import { isRefused, type Run, type Witness } from './witness.ts';

/** Results that are read at once. */
const READERS = 16;
/** Batches that a worker may hold for one handler process: the one that runs, and those taken ahead. */
const HELD_BATCHES = 9;

export type Accepted = {
  readonly id: string;
  readonly values: readonly number[];
  readonly mayEndEarly: boolean;
  readonly acceptedAt: number;
};
type Shape = { readonly rowsMax: number; readonly oddShare: number };
type Problem = { readonly from: number; readonly count: number; readonly code: string };
type Answer = {
  readonly status: string;
  readonly result: readonly (string | null)[];
  readonly errors: readonly Problem[];
  readonly counts: Readonly<Record<'ok' | 'failed' | 'cancelled' | 'expired' | 'unfinished', number>>;
};

export type Tally = Record<
  'calls' | 'rows' | 'ok' | 'failed' | 'cancelled' | 'expired' | 'live' | 'runs' | 'reruns',
  number
>;

export type LedgerOptions = {
  readonly witness: Witness;
  readonly random: Random;
  /** Asked before each request; null while nobody listens. */
  readonly door: () => Pick<SluiceServer, 'url'> | null;
  readonly shape?: Shape;
};

const JSON_TYPE = { 'content-type': 'application/json' };

export class CallLedger {
  readonly #options: LedgerOptions;
  readonly #shape: Shape;
  readonly accepted: Accepted[] = [];
  /** Submissions without an answer, and those that were answered other than 202, by status. */
  unanswered = 0;
  readonly refusals = new Map<number, number>();
  /** The run that answered each row. */
  readonly #answeredBy = new Map<number, string>();
  readonly #texts = new Map<string, string>();
  #callers: Promise<void>[] = [];
  #isLoading = false;
  #isAbandoned = false;
  #next = 0;

  constructor(options: LedgerOptions) {
    this.#options = options;
    this.#shape = options.shape ?? { rowsMax: 200, oddShare: 0.15 };
  }

  /** What to deploy for the calls to have their function. */
  get source(): string {
    return this.#options.witness.source;
  }

  /** Callers that submit one call after another, each until it is accepted, and wait for its result. */
  load(callers: number): void {
    this.#isLoading = true;
    for (let n = 0; n < callers; n += 1) this.#callers.push(this.#call(`caller-${this.#callers.length}`));
  }

  /** The callers end with the call that each of them submits. */
  async unload(): Promise<void> {
    this.#isLoading = false;
    await Promise.all(this.#callers.splice(0));
  }

  /** The callers end, and what they submit is given up: the test is over. */
  abandon(): void {
    this.#isLoading = false;
    this.#isAbandoned = true;
    for (const caller of this.#callers.splice(0)) caller.catch(() => undefined);
  }

  /** Ends when so many calls more were accepted. */
  async progress(calls: number): Promise<void> {
    const goal = this.accepted.length + calls;
    await eventually(`${calls} calls more are accepted`, async () => this.accepted.length >= goal);
  }

  /** Submits one call until it is accepted; a lost answer is asked for again. */
  async submit(key: string): Promise<Accepted> {
    const { random, witness, door } = this.#options;
    const values = Array.from({ length: random.int(1, this.#shape.rowsMax) }, () => this.#next++);
    const isOdd = random.chance(this.#shape.oddShare);
    const cancels = isOdd && random.chance(0.5);
    const deadline = isOdd && !cancels ? { deadline_ms: random.int(1, 300) } : {};
    const body = JSON.stringify({ columns: { value: values }, ...deadline });
    const headers = { ...JSON_TYPE, 'idempotency-key': key };
    const id = await eventually(`call ${key} is accepted`, async () => {
      if (this.#isAbandoned) return 'nobody waits for it';
      const url = door()?.url;
      if (url === undefined) return undefined;
      const address = `${url}/v1/functions/${witness.name}/calls`;
      const response = await fetch(address, { method: 'POST', headers, body }).catch((error: unknown) => {
        this.unanswered += 1;
        throw error;
      });
      if (response.status === 202) return ((await response.json()) as { call_id: string }).call_id;
      await response.text();
      this.refusals.set(response.status, (this.refusals.get(response.status) ?? 0) + 1);
      return undefined;
    });
    const accepted = { id, values, mayEndEarly: isOdd, acceptedAt: performance.now() };
    this.accepted.push(accepted);
    // One that is lost cancels nothing, and the rows run.
    if (cancels) await fetch(`${door()?.url}/v1/calls/${id}`, { method: 'DELETE' }).catch(() => undefined);
    return accepted;
  }

  /**
   * Reads every call to its end and compares: each row has one outcome, in its place, of a run that really ran; the store
   * lists these calls and no others, and holds no row that is still to run. `lost`: calls that may be gone.
   */
  async balance(lost: ReadonlySet<string> = new Set()): Promise<Tally> {
    const tally = {
      calls: 0,
      rows: 0,
      ok: 0,
      failed: 0,
      cancelled: 0,
      expired: 0,
      live: 0,
      runs: 0,
      reruns: 0,
    };
    const ids = this.accepted.map(({ id }) => id);
    expect(new Set(ids).size, 'two calls with one id').toBe(ids.length);
    const unread = this.accepted.filter(({ id }) => !lost.has(id));
    const reader = async (): Promise<void> => {
      for (let call = unread.pop(); call; call = unread.pop()) await this.#read(call, tally);
    };
    await Promise.all(Array.from({ length: READERS }, reader));
    tally.live = await this.#live();
    expect(tally.ok + tally.failed + tally.cancelled + tally.expired + tally.live).toBe(tally.rows);
    expect(tally.live, 'rows that are left').toBe(0);
    const listed = await this.#list();
    expect(listed.filter((id) => !ids.includes(id))).toEqual([]);
    expect(listed.length).toBe(tally.calls);
    const runs = this.#options.witness.runs();
    tally.runs = runs.length;
    tally.reruns = this.wasted(runs).reduce((sum, { rows }) => sum + rows, 0);
    this.#checkRuns(runs);
    return tally;
  }

  /** Runs that gave no row its answer although another did: what was run again, by the process that ran it first. */
  wasted(runs = this.#options.witness.runs()): { readonly run: Run; readonly rows: number }[] {
    return runs.flatMap((run) => {
      const again = run.values.filter((value) => {
        const answer = this.#answeredBy.get(value);
        return answer !== undefined && answer !== run.id;
      });
      return again.length === 0 ? [] : [{ run, rows: again.length }];
    });
  }

  /** Re-runs are at most what disturbed processes had in flight, each so many `times`; other processes have none. */
  expectRerunsOf(killed: ReadonlySet<number>, times = 1): void {
    const most = times * HELD_BATCHES * this.#options.witness.batchRows;
    const rowsOf = new Map<number, number>();
    for (const { run, rows } of this.wasted()) {
      const isKilled = killed.has(run.handler) || killed.has(run.worker);
      expect(isKilled, `process ${run.handler} was not disturbed, and run ${run.id} was repeated`).toBe(true);
      rowsOf.set(run.handler, (rowsOf.get(run.handler) ?? 0) + rows);
    }
    for (const [handler, rows] of rowsOf)
      expect(rows, `rows of handler ${handler} that ran again`).toBeLessThanOrEqual(most);
  }

  async #call(name: string): Promise<void> {
    for (let n = 0; this.#isLoading; n += 1) {
      const { id } = await this.submit(`${name}-${n}`);
      if (!this.#isAbandoned) await this.result(id);
    }
  }

  async #read(call: Accepted, tally: Tally): Promise<void> {
    const { status, text } = await this.result(call.id);
    expect(status, `result of ${call.id}: ${text}`).toBe(200);
    this.#check(call, JSON.parse(text) as Answer);
    tally.calls += 1;
    tally.rows += call.values.length;
    const { counts } = JSON.parse(text) as Answer;
    for (const state of ['ok', 'failed', 'cancelled', 'expired'] as const) tally[state] += counts[state];
  }

  /** Waits for a call's end; a door that goes away under the request, or has to refuse for a while, is asked again. */
  result(id: string): Promise<{ readonly status: number; readonly text: string }> {
    let last = 'nobody answered';
    const asked = eventually(`the result of ${id}`, async () => {
      if (this.#isAbandoned) return { status: 0, text: 'nobody waits for it' };
      const response = await fetch(`${this.#options.door()!.url}/v1/calls/${id}/result?wait=60`);
      last = await response.text();
      return response.status === 409 || response.status === 503
        ? undefined
        : { status: response.status, text: last };
    });
    return asked.catch((error: Error) =>
      Promise.reject(new Error(`${error.message}; the last answer was ${last}`)),
    );
  }

  #check({ id, values, mayEndEarly }: Accepted, { result, errors, counts }: Answer): void {
    expect(result, id).toHaveLength(values.length);
    const text = JSON.stringify([result, errors, counts]);
    expect(this.#texts.get(id) ?? text, `another result of ${id}`).toBe(text);
    this.#texts.set(id, text);
    const codes = new Map<number, string>();
    for (const { from, count, code } of errors)
      for (let row = from; row < from + count; row += 1) codes.set(row, code);
    const seen = { ok: 0, failed: 0, cancelled: 0, expired: 0, unfinished: 0 };
    for (const [row, value] of values.entries()) {
      const code = codes.get(row);
      if (code === undefined) {
        const [told, run] = (result[row] ?? '').split(' ');
        expect(told, `row ${row} of ${id}`).toBe(String(value));
        this.#answeredBy.set(value, run!);
        seen.ok += 1;
      } else if (code === 'row_cancelled' || code === 'row_expired') {
        expect(mayEndEarly, `row ${row} of ${id} is ${code}`).toBe(true);
        seen[code === 'row_cancelled' ? 'cancelled' : 'expired'] += 1;
      } else {
        expect(isRefused(value), `row ${row} of ${id} failed with ${code}`).toBe(true);
        seen.failed += 1;
      }
    }
    expect(counts, id).toMatchObject(seen);
  }

  /** Each answer is of a run that had the row. */
  #checkRuns(runs: readonly Run[]): void {
    const valuesOf = new Map(runs.map(({ id, values }) => [id, new Set(values)]));
    for (const [value, run] of this.#answeredBy)
      expect(valuesOf.get(run)?.has(value), `row ${value} was answered by run ${run}`).toBe(true);
  }

  async #live(): Promise<number> {
    const { queue } = await this.#get<{ queue: { waiting_rows: number; sealed_rows: number } }>(
      `/v1/functions/${this.#options.witness.name}`,
    );
    return queue.waiting_rows + queue.sealed_rows;
  }

  async #list(): Promise<string[]> {
    const ids: string[] = [];
    for (let cursor: string | null = ''; cursor !== null; ) {
      const at = cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`;
      const page: { calls: { call_id: string }[]; next_cursor: string | null } = await this.#get(
        `/v1/calls?function=${this.#options.witness.name}&limit=1000${at}`,
      );
      ids.push(...page.calls.map(({ call_id }) => call_id));
      cursor = page.next_cursor;
    }
    return ids;
  }

  #get<T>(path: string): Promise<T> {
    return eventually(path, async () => {
      const response = await fetch(`${this.#options.door()?.url}${path}`);
      return response.status === 200 ? ((await response.json()) as T) : undefined;
    });
  }
}

/** Printed at the end of a run, for the record. */
export const tallyText = (tally: Tally): string =>
  `accepted ${tally.rows} rows in ${tally.calls} calls = ${tally.ok} completed + ${tally.failed} failed + ` +
  `${tally.cancelled} cancelled + ${tally.expired} expired + ${tally.live} live; ${tally.runs} runs, ${tally.reruns} rows run again`;
