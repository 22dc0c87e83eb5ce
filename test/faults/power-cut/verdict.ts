/** Opens the store on an image and compares it with what was acknowledged. Every difference is a line. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { Call } from '../../../shared/domain/call.ts';
import { isFinished } from '../../../shared/domain/call.ts';
import { openEmbeddedStore } from '../../../shared/store/embedded/index.ts';
import type { LeasedBatch, ResultPart } from '../../../shared/store/ports/queue.ts';
import type { Store } from '../../../shared/store/ports/store.ts';
import { LIMITS } from '../../contract/factory.ts';
import { okOutcomes } from '../../contract/workshop.ts';
import { outputOf, payloadOf } from './evidence.ts';

type Known = {
  readonly id: number;
  readonly rows: number;
  readonly key: number;
  readonly bytes: number;
  isCancelled: boolean;
  /** It is being cancelled: rows that settle meanwhile may be late. */
  mayBeCancelled: boolean;
  /** Its reader let go of it: it may have been swept. */
  isReleased: boolean;
  /** Settled rows, with the token that settled them. */
  readonly settled: Map<number, string>;
};

type Facts = { readonly digest: string | null; readonly calls: Map<number, Known> };

const readFacts = (lines: readonly string[]): Facts => {
  const calls = new Map<number, Known>();
  let digest: string | null = null;
  for (const line of lines) {
    const [word, ...rest] = line.split(' ') as [string, ...string[]];
    const [id, second, third, fourth] = rest.map(Number) as [number, number, number, number];
    if (word === 'deployed') digest = rest[0]!;
    if (word === 'admitted') {
      calls.set(id, {
        id,
        rows: second,
        key: third,
        bytes: fourth,
        isCancelled: false,
        mayBeCancelled: false,
        isReleased: false,
        settled: new Map(),
      });
    }
    if (word === 'cancelling') calls.get(id)!.mayBeCancelled = true;
    if (word === 'cancelled') calls.get(id)!.isCancelled = true;
    const released = word === 'released' ? calls.get(id) : undefined;
    if (released !== undefined) released.isReleased = true;
    if (word === 'settled') {
      for (let row = second; row < second + third; row += 1) calls.get(id)?.settled.set(row, rest[3]!);
    }
  }
  return { digest, calls };
};

/** `ok` rows by row: the token that the output names, or why it is not whole. */
const tokensOf = (parts: readonly ResultPart[]): Map<number, string> => {
  const tokens = new Map<number, string>();
  for (const part of parts) {
    if (part.state !== 'ok') continue;
    const { bytes } = part.output;
    const text = Buffer.from(bytes).toString('latin1');
    const token = text.slice(0, text.indexOf(';'));
    const isWhole = Buffer.compare(bytes, outputOf(token, bytes.byteLength)) === 0;
    for (let row = part.from; row < part.from + part.count; row += 1)
      tokens.set(row, isWhole ? token : 'torn');
  }
  return tokens;
};

class Inspection {
  readonly #store: Store;
  readonly #facts: Facts;
  readonly #now: number;
  readonly problems: string[] = [];

  constructor(store: Store, facts: Facts, now: number) {
    this.#store = store;
    this.#facts = facts;
    this.#now = now;
  }

  async run(): Promise<void> {
    const record = await this.#store.registry.function('f');
    if (this.#facts.digest !== null && record?.current.digest !== this.#facts.digest) {
      this.problems.push('the deployed function is not there');
      return;
    }
    for (const known of this.#facts.calls.values()) await this.#checkKnown(known);
    await this.#checkLoad();
    if (record !== undefined) await this.#finishAll(record.current.id);
  }

  async #checkKnown(known: Known): Promise<void> {
    const { id, rows, isCancelled, isReleased } = known;
    const call = await this.#store.queue.call(id);
    if (call === 'gone' && isReleased) return;
    if (call === undefined || call === 'gone') {
      this.problems.push(`call ${id} was acknowledged and is ${call ?? 'not there'}`);
    } else if (call.rows !== rows) this.problems.push(`call ${id} has ${call.rows} rows instead of ${rows}`);
    else if (isCancelled && call.status !== 'cancelled')
      this.problems.push(`call ${id} was cancelled and is ${call.status}`);
    else await this.#checkRows(known);
  }

  async #checkRows({ id, settled, mayBeCancelled }: Known): Promise<void> {
    const page = await this.#store.queue.result({ callId: id, from: 0, bytesMax: 2 ** 30 });
    if (page === undefined || page === 'gone') return;
    const tokens = tokensOf(page.parts);
    for (const [row, token] of settled) {
      const part = page.parts.find(({ from, count }) => row >= from && row < from + count);
      if (mayBeCancelled && part?.state === 'cancelled') continue;
      if (tokens.get(row) !== token)
        this.problems.push(`row ${row} of call ${id} was settled by ${token}, shows ${tokens.get(row)}`);
    }
  }

  /** Rows of unfinished calls are waiting, sealed or have an outcome: the counters say the same. */
  async #checkLoad(): Promise<void> {
    let unfinished = 0;
    for (const call of await this.#all()) {
      const { ok, failed, cancelled, expired } = call.counts;
      const outcomes = ok + failed + cancelled + expired;
      if (isFinished(call.status) && outcomes !== call.rows)
        this.problems.push(`finished call ${call.id} lacks outcomes`);
      if (!isFinished(call.status)) unfinished += call.rows - outcomes;
    }
    const [load] = await this.#store.registry.load();
    const counted = (load?.waitingRows ?? 0) + (load?.sealedRows ?? 0);
    if (counted !== unfinished)
      this.problems.push(`${unfinished} rows have no outcome, the counters say ${counted}`);
  }

  async #all(): Promise<Call[]> {
    const calls: Call[] = [];
    for (let before: number | null = null, isFirst = true; isFirst || before !== null; isFirst = false) {
      const page = await this.#store.queue.list({
        functionName: null,
        status: null,
        apiKeyId: null,
        before,
        limit: 500,
      });
      calls.push(...page.calls);
      before = page.next;
    }
    return calls;
  }

  /** Everything that was accepted must come to its end. */
  async #finishAll(versionId: number): Promise<void> {
    const { queue } = this.#store;
    for (let after: number | null = 0; after !== null; ) {
      const page = await queue.open({ versionId, after, limit: 100 });
      for (const { callId, from, rows } of page.calls) {
        await queue.seal({
          now: this.#now,
          versionId,
          slices: [{ callId, from, count: rows }],
          reason: 'drain',
          fence: '',
        });
      }
      after = page.next;
    }
    for (;;) {
      const batches = await queue.lease({ now: this.#now, workerId: 'w', versionId, leaseMs: 1e6, max: 100 });
      if (batches.length === 0) break;
      for (const batch of batches) await this.#settle(batch);
    }
    const open = (await this.#all()).filter(({ status }) => !isFinished(status));
    if (open.length > 0)
      this.problems.push(`${open.length} calls cannot be finished, such as ${open[0]!.id}`);
    const [load] = await this.#store.registry.load();
    if (load && load.waitingRows + load.sealedRows !== 0)
      this.problems.push('finished, and rows are still counted');
  }

  async #settle(batch: LeasedBatch): Promise<void> {
    for (const { callId, payload } of batch.calls) {
      const known = this.#facts.calls.get(callId);
      const isRight =
        known === undefined ||
        (payload.kind === 'json' && payload.text === payloadOf(known.key, known.bytes));
      if (!isRight) this.problems.push(`the payload of call ${callId} is another`);
    }
    for (const { callId, from, count } of batch.slices) {
      const settled = this.#facts.calls.get(callId)?.settled;
      for (let row = from; row < from + count; row += 1) {
        if (settled?.has(row))
          this.problems.push(`row ${row} of call ${callId} runs again after it was settled`);
      }
    }
    await this.#store.queue.settle({
      now: this.#now,
      batchId: batch.batchId,
      token: batch.token,
      outcomes: okOutcomes(batch.slices),
      output: outputOf(batch.token, 100),
      continuations: [],
      startedAt: this.#now,
      handlerMs: 1,
    });
  }
}

const integrityOf = (directory: string): string[] => {
  const file = path.join(directory, 'sluice.db');
  if (!existsSync(file)) return [];
  const db = new DatabaseSync(file);
  try {
    db.exec('PRAGMA locking_mode = EXCLUSIVE');
    const rows = db.prepare('PRAGMA integrity_check').all() as { integrity_check: string }[];
    return rows.map((row) => row.integrity_check).filter((text) => text !== 'ok');
  } finally {
    db.close();
  }
};

/** Empty when every acknowledged fact is there and the ledger balances. */
export const inspect = async (directory: string, lines: readonly string[]): Promise<string[]> => {
  try {
    const damage = integrityOf(directory);
    if (damage.length > 0) return damage;
    const server = await openEmbeddedStore({ ...LIMITS, directory, durability: 'memory' });
    try {
      const inspection = new Inspection(server.connect(), readFacts(lines), Date.now());
      await inspection.run();
      return inspection.problems;
    } finally {
      await server.close();
    }
  } catch (error) {
    return [`the store does not serve: ${(error as Error).message}`];
  }
};
