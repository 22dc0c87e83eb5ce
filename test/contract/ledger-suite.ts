import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Outcome, RowCounts, Slice } from '../../shared/domain/call.ts';
import type { Continuation, LeasedBatch } from '../../shared/store/ports/queue.ts';
import type { FunctionLoad } from '../../shared/store/ports/registry.ts';
import { runsOf, type StoreFactory } from './factory.ts';
import { isFinal, LedgerModel, type ModelCall, shownBy } from './ledger-model.ts';
import { LEASE_MS, specOf, Workshop } from './workshop.ts';

type Step = { readonly verb: string; readonly pick: number; readonly size: number };

/** How often each step is tried. */
const WEIGHTS = {
  admit: 7,
  seal: 7,
  lease: 6,
  settle: 8,
  release: 1,
  stale: 1,
  cancel: 1,
  pass: 2,
  lose: 1,
  purge: 1,
  reopen: 1,
};
const VERBS = Object.entries(WEIGHTS).flatMap(([verb, weight]) => Array<string>(weight).fill(verb));
const step: fc.Arbitrary<Step> = fc.record({
  verb: fc.constantFrom(...VERBS),
  pick: fc.nat(1000),
  size: fc.nat(7),
});

/** Drives the store and the model with the same steps. */
class Run {
  readonly #shop: Workshop;
  readonly #name: string;
  readonly #keepsLeases: boolean;
  readonly #model = new LedgerModel();
  #stale: LeasedBatch[] = [];
  /** Of an earlier start. */
  #endedBefore: RowCounts = { ok: 0, failed: 0, cancelled: 0, expired: 0 };

  constructor(shop: Workshop, name: string, keepsLeases: boolean) {
    this.#shop = shop;
    this.#name = name;
    this.#keepsLeases = keepsLeases;
  }

  async take({ verb, pick, size }: Step): Promise<void> {
    const model = this.#model;
    const calls = [...model.calls.values()];
    const call = calls[pick % Math.max(calls.length, 1)];
    const [batch] = model.held.slice(pick % Math.max(model.held.length, 1));
    if (verb === 'admit') await this.#admit(pick, size * 3);
    else if (verb === 'seal') await this.#seal(calls, pick, size);
    else if (verb === 'lease') await this.#lease(1 + (size % 3));
    else if (verb === 'settle' && batch) await this.#settle(batch, pick, size);
    else if (verb === 'release' && batch) await this.#release(batch);
    else if (verb === 'stale') await this.#settleStale(pick);
    else if (verb === 'cancel' && call) await this.#cancel(call);
    else if (verb === 'pass') await this.#pass(size * 3);
    else if (verb === 'lose') await this.#pass(LEASE_MS);
    else if (verb === 'purge' && pick % 20 === 0) await this.#purge(calls);
    else if (verb === 'reopen' && pick % 3 === 0 && !this.#keepsLeases) await this.#reopen();
  }

  async #admit(pick: number, rows: number): Promise<void> {
    const deadlineAt = pick % 5 === 0 ? this.#shop.now + (pick % 30) + 1 : null;
    const id = await this.#shop.admit(rows, { functionName: this.#name, deadlineAt });
    this.#model.admit(id, rows, deadlineAt);
  }

  async #seal(calls: readonly ModelCall[], pick: number, size: number): Promise<void> {
    const model = this.#model;
    const chosen = calls.filter(
      (_, index) => (pick >> (index % 10)) % 2 === 0 || index === pick % calls.length,
    );
    const slices = chosen.flatMap((call): [number, number, number][] => {
      const { from, count } = model.waiting(call);
      return count === 0 ? [] : [[call.id, from, Math.min(count, 1 + size)]];
    });
    const { batchId, refused } = await this.#shop.seal(...slices);
    const past = slices.filter(([id]) => model.isPast(model.calls.get(id)!, this.#shop.now));
    expect(refused.map(({ callId }) => callId)).toEqual(past.map(([id]) => id));
    expect(batchId === null).toBe(past.length === slices.length);
    for (const [callId, from, count] of slices) {
      if (past.some(([id]) => id === callId)) continue;
      for (const row of model.rowsOf({ callId, from, count }))
        Object.assign(row, { state: 'sealed', batch: batchId! });
    }
  }

  async #lease(max: number): Promise<void> {
    const model = this.#model;
    // A lease looks at deadlines, so rows that it met have expired.
    for (const batch of await this.#shop.lease(max)) {
      for (const slice of batch.slices) {
        expect(model.isPast(model.calls.get(slice.callId)!, this.#shop.now)).toBe(false);
        for (const row of model.rowsOf(slice)) {
          expect(row.state).toBe('sealed');
          Object.assign(row, { state: 'running', batch: batch.batchId });
        }
      }
      model.held.push(batch);
    }
    await this.#expire();
  }

  async #settle(batch: LeasedBatch, pick: number, size: number): Promise<void> {
    const outcomes: Outcome[] = [];
    const parts: Slice[] = [];
    const error = { code: 'handler_error', message: `e${pick}` };
    let outputRow = 0;
    for (const { callId, from, count } of batch.slices) {
      for (let row = 0; row < count; row += 1) {
        const slice = { callId, from: from + row, count: 1 };
        const kind = (pick + row * size + from) % 4;
        if (kind < 2) outcomes.push({ ...slice, state: 'ok', outputRow });
        else if (kind === 2) outcomes.push({ ...slice, state: 'failed', error });
        else parts.push(slice);
        outputRow += 1;
      }
    }
    expect(await this.#shop.settle(batch, outcomes, this.#continuations(parts, pick))).toMatchObject({
      accepted: true,
    });
    this.#drop(batch);
    const fill = batch.batchId % 251;
    for (const one of outcomes) {
      const [row] = this.#model.rowsOf(one);
      if (row === undefined || isFinal(row)) continue;
      const answer = one.state === 'ok' ? `${fill}:${one.outputRow}` : error.message;
      Object.assign(row, { state: one.state, answer });
    }
    this.#giveBack(parts);
  }

  #continuations(parts: readonly Slice[], pick: number): Continuation[] {
    if (parts.length === 0) return [];
    if (pick % 2 === 0) return [this.#shop.continuation(parts)];
    return parts.map((slice) => this.#shop.continuation([slice], { mode: 'isolate' }));
  }

  /** Rows that run again wait for a lease, unless their deadline has passed. */
  #giveBack(slices: readonly Slice[]): void {
    for (const slice of slices) {
      const call = this.#model.calls.get(slice.callId)!;
      const state = this.#model.isPast(call, this.#shop.now) ? 'expired' : 'sealed';
      for (const row of this.#model.rowsOf(slice)) if (row.state === 'running') row.state = state;
    }
  }

  #drop(batch: LeasedBatch): void {
    this.#model.held.splice(this.#model.held.indexOf(batch), 1);
    this.#stale.push(batch);
  }

  async #release(batch: LeasedBatch): Promise<void> {
    const lease = { now: this.#shop.now, batchId: batch.batchId, token: batch.token };
    expect(await this.#shop.queue.release(lease)).toBe(true);
    this.#drop(batch);
    this.#giveBack(batch.slices);
  }

  async #settleStale(pick: number): Promise<void> {
    const batch = this.#stale[pick % Math.max(this.#stale.length, 1)];
    if (batch !== undefined)
      expect(await this.#shop.settleOk(batch)).toEqual({ accepted: false, stale: true });
  }

  async #cancel(call: ModelCall): Promise<void> {
    const open = call.rows.filter((row) => !isFinal(row)).length;
    const answer = await this.#shop.queue.cancel({ now: this.#shop.now, callId: call.id });
    expect(answer).toEqual({ calls: open > 0 ? 1 : 0, rows: open });
    this.#model.end(call, 'cancelled');
  }

  async #purge(calls: readonly ModelCall[]): Promise<void> {
    await this.#shop.queue.cancel({ now: this.#shop.now, functionName: this.#name });
    for (const call of calls) this.#model.end(call, 'cancelled');
  }

  async #pass(ms: number): Promise<void> {
    this.#shop.now += ms;
    await this.#expire();
  }

  async #expire(): Promise<void> {
    const { now } = this.#shop;
    await this.#shop.expire();
    for (const batch of this.#model.held.filter(({ leaseUntil }) => leaseUntil <= now)) {
      this.#drop(batch);
      this.#giveBack(batch.slices);
    }
    for (const call of this.#model.calls.values()) {
      if (this.#model.isPast(call, now)) this.#model.end(call, 'expired', ({ state }) => state !== 'running');
    }
  }

  async #reopen(): Promise<void> {
    const { versionId } = this.#shop;
    await this.#shop.reopen();
    this.#shop.versionId = versionId;
    for (const batch of [...this.#model.held]) {
      this.#drop(batch);
      for (const slice of batch.slices) {
        for (const row of this.#model.rowsOf(slice)) if (row.state === 'running') row.state = 'sealed';
      }
    }
    const ended = (await this.#load()).endedRows;
    // A store of one process counts from its start.
    this.#endedBefore = differenceOf(this.#endedRows(), ended);
    await this.#expire();
  }

  #endedRows(): RowCounts {
    const count = (state: keyof RowCounts): number => this.#model.count(state);
    return {
      ok: count('ok'),
      failed: count('failed'),
      cancelled: count('cancelled'),
      expired: count('expired'),
    };
  }

  async #load(): Promise<FunctionLoad> {
    const loads = await this.#shop.store.registry.load();
    return loads.find(({ functionName }) => functionName === this.#name)!;
  }

  async check(): Promise<void> {
    const model = this.#model;
    const calls = [...model.calls.values()];
    // At once: one after another they would be most of the suite's time.
    const asked = calls.map((call) => this.#shop.result(call.id));
    const [load, ...pages] = await Promise.all([this.#load(), ...asked]);
    for (const [nth, { call: view, parts }] of pages.entries()) {
      const call = calls[nth]!;
      expect(shownBy(parts)).toEqual(model.shown(call));
      const status = view.status === 'pending' || view.status === 'running' ? 'unfinished' : view.status;
      expect(status).toBe(model.statusOf(call));
      const count = (state: string): number => call.rows.filter((row) => row.state === state).length;
      expect(view.counts).toEqual({
        ok: count('ok'),
        failed: count('failed'),
        cancelled: count('cancelled'),
        expired: count('expired'),
      });
    }
    expect(load).toMatchObject({
      waitingRows: model.count('waiting'),
      sealedRows: model.count('sealed') + model.count('running'),
      waitingCalls: [...model.calls.values()].filter((call) => model.waiting(call).count > 0).length,
      endedRows: differenceOf(this.#endedRows(), this.#endedBefore),
    });
  }
}

const differenceOf = (a: RowCounts, b: RowCounts): RowCounts => ({
  ok: a.ok - b.ok,
  failed: a.failed - b.failed,
  cancelled: a.cancelled - b.cancelled,
  expired: a.expired - b.expired,
});

export const ledgerSuite = (factory: StoreFactory): void => {
  it('balances, and gives each row exactly one outcome, whatever happens in whatever order', async () => {
    await using shop = await Workshop.make(factory);
    let runs = 0;
    const property = fc.asyncProperty(
      fc.array(step, { minLength: 20, maxLength: 60, size: 'max' }),
      async (steps) => {
        runs += 1;
        shop.versionId = await shop.deploy(specOf(`m${runs}`));
        await shop.own(`m${runs}`);
        const run = new Run(shop, `m${runs}`, factory.capabilities.keepsLeases);
        for (const one of steps) {
          await run.take(one);
          await run.check();
        }
      },
    );
    // The limit is for shrinking a failure, which would go on past the test's own.
    await fc.assert(property, { numRuns: runsOf(factory, 40), interruptAfterTimeLimit: 40_000 });
  });
};
