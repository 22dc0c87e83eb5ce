/**
 * Callers of a soak: single rows that are waited for, bulk calls, rows that fail, cancels, deadlines, keys that are sent twice.
 * Each call is checked when it ends and then forgotten, here as in the server, so that a run may be as long as one likes.
 */
import { expect } from 'vitest';
import { Random } from '../../sim/random.ts';
import { eventually } from '../../support/sluice-process.ts';
import { isRefused } from '../../support/witness.ts';

export const NAME = 'soaked';
export const REPLICAS = 2;
/** The handler raises for rows of these values, so that they have to be isolated. */
const isRaising = (value: number): boolean => value % 4999 === 4998;

export const sourceOf = (release: number): string => `
import sluice

@sluice.function(
    name="${NAME}", max_batching_size=64, max_buffer_duration=5, min_replicas=${REPLICAS},
    retries=sluice.RetryPolicy(retries=1, first_wait=0.01),
)
def soaked(text: list[str]) -> list[str]:
    values = [int(t.split(" ")[0]) for t in text]
    guilty = [v for v in values if v % 4999 == 4998]
    if guilty:
        raise ValueError(f"row {guilty[0]}")
    return [sluice.RowError("refused") if v % 101 == 100 else f"{t} ${release}" for v, t in zip(values, text)]
`;

/** Rows of some size soon fill the caches of what was read and written, which have limits in bytes. */
const textOf = (value: number): string => `${value} ${'x'.repeat(200)}`;

export const OUTCOMES = ['ok', 'failed', 'cancelled', 'expired'] as const;
export type Outcomes = Record<(typeof OUTCOMES)[number], number>;

type Answer = {
  readonly call_id: string;
  readonly result: readonly (string | null)[];
  readonly errors: readonly { readonly from: number; readonly count: number; readonly code: string }[];
  readonly counts: Outcomes & { readonly unfinished: number };
};
type Kind = { readonly share: number; readonly rowsMax: number };

const KINDS = {
  single: { share: 0.7, rowsMax: 1 },
  bulk: { share: 0.2, rowsMax: 2000 },
  cancelled: { share: 0.05, rowsMax: 2000 },
  short: { share: 0.05, rowsMax: 500 },
} satisfies Record<string, Kind>;
type KindName = keyof typeof KINDS;
/** Of the calls that are not single. */
const SENT_TWICE = 0.2;
const WAIT_S = 60;

export class SoakCallers {
  readonly #url: string;
  readonly #acknowledged: number;
  readonly #random: Random;
  /** What the callers were told of their rows. */
  readonly ended: Outcomes = { ok: 0, failed: 0, cancelled: 0, expired: 0 };
  calls = 0;
  rows = 0;
  #running: Promise<unknown> = Promise.resolve();
  #isLoading = false;
  #failure: unknown = null;
  #next = 0;

  /** @param acknowledged the share of calls whose results are acknowledged */
  constructor(url: string, { seed, acknowledged }: { readonly seed: number; readonly acknowledged: number }) {
    this.#url = url;
    this.#acknowledged = acknowledged;
    this.#random = new Random(seed);
  }

  load(callers: number): void {
    this.#isLoading = true;
    const caller = async (): Promise<void> => {
      while (this.#isLoading) await this.#call();
    };
    const note = (error: unknown): void => {
      this.#isLoading = false;
      this.#failure ??= error;
    };
    this.#running = Promise.all(Array.from({ length: callers }, () => caller().catch(note)));
  }

  /** Ends when so many calls more have ended; rejects with what a caller has found wrong. */
  async progress(calls: number): Promise<void> {
    const goal = this.calls + calls;
    await eventually(`${calls} calls more end`, async () => this.calls >= goal || this.#failure !== null);
    this.#throwIfFailed();
  }

  /** The callers end with the call that each of them makes. */
  async unload(): Promise<void> {
    this.#isLoading = false;
    await this.#running;
    this.#throwIfFailed();
  }

  /** The callers end, and nobody asks what they found: the test is over. */
  abandon(): void {
    this.#isLoading = false;
  }

  #throwIfFailed(): void {
    if (this.#failure !== null) throw this.#failure;
  }

  #kind(): KindName {
    let at = this.#random.next();
    for (const [name, { share }] of Object.entries(KINDS)) {
      at -= share;
      if (at < 0) return name as KindName;
    }
    return 'single';
  }

  async #call(): Promise<void> {
    const kind = this.#kind();
    const values = Array.from({ length: this.#random.int(1, KINDS[kind].rowsMax) }, () => this.#next++);
    const deadline = kind === 'short' ? { deadline_ms: this.#random.int(1, 100) } : {};
    const body = JSON.stringify({ columns: { text: values.map(textOf) }, ...deadline });
    const answer = kind === 'single' ? await this.#waited(body) : await this.#polled(kind, body, values[0]!);
    this.#check(answer, values, kind);
    if (this.#random.chance(this.#acknowledged))
      expect((await this.#ask('POST', `/v1/calls/${answer.call_id}/acknowledge`)).status).toBe(204);
  }

  async #waited(body: string): Promise<Answer> {
    const { status, text } = await this.#submit(body, { prefer: `wait=${WAIT_S}` });
    expect(status, text).toBe(200);
    return JSON.parse(text) as Answer;
  }

  async #polled(kind: KindName, body: string, first: number): Promise<Answer> {
    const key = { 'idempotency-key': `from ${first}` };
    const { status, text } = await this.#submit(body, key);
    expect(status, text).toBe(202);
    const { call_id } = JSON.parse(text) as Answer;
    const at = `/v1/calls/${call_id}`;
    if (kind === 'cancelled') expect((await this.#ask('DELETE', at)).status).toBe(200);
    if (this.#random.chance(SENT_TWICE))
      expect(JSON.parse((await this.#submit(body, key)).text)).toMatchObject({ call_id, attached: true });
    const result = await this.#ask('GET', `${at}/result?wait=${WAIT_S}`);
    expect(result.status, result.text).toBe(200);
    return JSON.parse(result.text) as Answer;
  }

  #submit(body: string, headers: Record<string, string>): Promise<{ status: number; text: string }> {
    const all = { 'content-type': 'application/json', ...headers };
    return this.#ask('POST', `/v1/functions/${NAME}/calls`, { headers: all, body });
  }

  async #ask(
    method: string,
    path: string,
    init: RequestInit = {},
  ): Promise<{ status: number; text: string }> {
    const response = await fetch(this.#url + path, { method, ...init });
    return { status: response.status, text: await response.text() };
  }

  /** One outcome a row, in its place. */
  #check({ call_id, result, errors, counts }: Answer, values: readonly number[], kind: KindName): void {
    const codes = new Map<number, string>();
    for (const { from, count, code } of errors)
      for (let row = from; row < from + count; row += 1) codes.set(row, code);
    expect(result, call_id).toHaveLength(values.length);
    const seen: Outcomes = { ok: 0, failed: 0, cancelled: 0, expired: 0 };
    for (const [row, value] of values.entries()) {
      const outcome = outcomeOf(codes.get(row), value, kind);
      const isRight = outcome === 'ok' ? result[row]?.startsWith(`${textOf(value)} `) : result[row] === null;
      if (outcome === null || !isRight)
        expect.fail(`row ${row} (${value}) of ${kind} call ${call_id}: ${result[row]}, ${codes.get(row)}`);
      seen[outcome] += 1;
    }
    expect(counts, call_id).toMatchObject({ ...seen, unfinished: 0 });
    for (const outcome of OUTCOMES) this.ended[outcome] += seen[outcome];
    this.rows += values.length;
    this.calls += 1;
  }
}

/** Null for one that the row may not have. */
const outcomeOf = (code: string | undefined, value: number, kind: KindName): keyof Outcomes | null => {
  if (code === 'row_cancelled') return kind === 'cancelled' ? 'cancelled' : null;
  if (code === 'row_expired') return kind === 'short' ? 'expired' : null;
  if (isRefused(value) || isRaising(value)) return code === undefined ? null : 'failed';
  return code === undefined ? 'ok' : null;
};
