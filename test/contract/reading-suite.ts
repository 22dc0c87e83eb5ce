import { expect, it } from 'vitest';
import type { CallEvent } from '../../shared/store/ports/queue.ts';
import type { StoreFactory } from './factory.ts';
import { BOOM, LEASE_MS, specOf, states, Workshop } from './workshop.ts';

/** Resolves with the event that ends the call. */
const ended = (shop: Workshop, callId: number): Promise<CallEvent> =>
  new Promise((resolve) => {
    shop.queue.watch({ kind: 'call', callId }, (event) => {
      if (event.status !== 'running') resolve(event);
    });
  });

export const readingSuite = (factory: StoreFactory): void => {
  it('knows neither call nor result of an id that never was', async () => {
    await using shop = await Workshop.make(factory);
    expect(await shop.queue.call(77)).toBeUndefined();
    expect(await shop.queue.result({ callId: 77, from: 0, bytesMax: 1 })).toBeUndefined();
  });

  it('lists calls newest first, paged and filtered', async () => {
    await using shop = await Workshop.make(factory);
    const g = await shop.deploy(specOf('g'));
    const ids: number[] = [];
    for (let i = 0; i < 9; i += 1) {
      const isG = i % 3 === 0;
      ids.push(await shop.admit(i % 2, isG ? { functionName: 'g', versionId: g, apiKeyId: 5 } : {}));
    }
    const all = async (query: Partial<Parameters<typeof shop.queue.list>[0]>): Promise<number[]> => {
      const found: number[] = [];
      const filter = { functionName: null, status: null, apiKeyId: null, limit: 2, ...query };
      for (let before: number | null = null, isFirst = true; isFirst || before !== null; isFirst = false) {
        const page = await shop.queue.list({ ...filter, before });
        expect(page.calls.length).toBeLessThanOrEqual(2);
        found.push(...page.calls.map(({ id }) => id));
        before = page.next;
      }
      return found;
    };
    const newest = ids.toReversed();
    expect(await all({})).toEqual(newest);
    expect(await all({ functionName: 'g' })).toEqual(newest.filter((_, i) => (8 - i) % 3 === 0));
    expect(await all({ apiKeyId: 5 })).toEqual(newest.filter((_, i) => (8 - i) % 3 === 0));
    expect(await all({ status: 'completed' })).toEqual(newest.filter((_, i) => i % 2 === 0));
    expect(await all({ status: 'pending', functionName: 'f' })).toEqual([ids[7], ids[5], ids[1]]);
    expect(await all({ functionName: 'nope' })).toEqual([]);
  });

  it('finds the calls of a status behind any number of others', async () => {
    await using shop = await Workshop.make(factory);
    const cancelled = await shop.admit(1);
    await shop.queue.cancel({ now: shop.now, callId: cancelled });
    const [waiting, running] = [await shop.admit(1), await shop.admit(1)];
    await shop.run([running, 0, 1]);
    await Promise.all(Array.from({ length: 25_000 }, () => shop.admit(0)));
    const filter = { functionName: 'f', apiKeyId: null, before: null, limit: 1 };
    const wanted = { cancelled, pending: waiting, running } as const;
    for (const [status, id] of Object.entries(wanted) as [keyof typeof wanted, number][]) {
      const page = await shop.queue.list({ ...filter, status });
      expect(page).toMatchObject({ calls: [{ id, status }], next: id });
      expect(await shop.queue.list({ ...filter, status, before: id })).toEqual({ calls: [], next: null });
    }
    expect(await shop.queue.list({ ...filter, status: 'failed' })).toEqual({ calls: [], next: null });
  });

  it('pages through a result by bytes', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(8);
    for (let at = 0; at < 8; at += 2) await shop.seal([id, at, 2]);
    const batches = await shop.lease(4);
    // Settled in another order than that of the rows.
    for (const index of [3, 0, 2, 1]) await shop.settleOk(batches[index]!, 100_000);
    const seen: string[] = [];
    for (let from: number | null = 0; from !== null; ) {
      const page = await shop.result(id, from, 200_000);
      expect(page.parts.length).toBeLessThanOrEqual(2);
      seen.push(...states(page.parts));
      from = page.next;
    }
    expect(seen).toEqual(['ok 0+2', 'ok 2+2', 'ok 4+2', 'ok 6+2']);
    const tiny = await shop.result(id, 0, 1);
    expect(tiny).toMatchObject({ next: 2 });
    expect(tiny.parts).toHaveLength(1);
    const middle = await shop.result(id, 3, 1);
    expect(middle.parts).toMatchObject([{ from: 3, count: 1, outputRow: 1 }]);
    expect(await shop.result(id, 8)).toMatchObject({ parts: [], next: null });
  });

  it.each([64, 20_000, 1_500_000])(
    'gives back the output bytes of %i bytes as they were settled',
    async (bytes) => {
      await using shop = await Workshop.make(factory);
      const id = await shop.admit(1);
      const batch = await shop.run([id, 0, 1]);
      const output = Uint8Array.from({ length: bytes }, (_, index) => (index * 31) % 256);
      await shop.queue.settle({
        now: shop.now,
        batchId: batch.batchId,
        token: batch.token,
        outcomes: [{ callId: id, from: 0, count: 1, state: 'ok', outputRow: 0 }],
        output,
        continuations: [],
        startedAt: shop.now,
        handlerMs: 1,
      });
      for (const reopen of [false, true]) {
        if (reopen) await shop.reopen();
        const [part] = (await shop.result(id)).parts;
        expect(part?.state === 'ok' && Buffer.compare(part.output.bytes, output)).toBe(0);
      }
    },
  );

  it('joins runs of one output, and shares an output between calls', async () => {
    await using shop = await Workshop.make(factory);
    const [a, b] = [await shop.admit(2), await shop.admit(2)];
    const batch = await shop.run([a, 0, 1], [a, 1, 1], [b, 0, 2]);
    await shop.settleOk(batch);
    expect((await shop.result(a)).parts).toMatchObject([{ from: 0, count: 2, outputRow: 0 }]);
    expect((await shop.result(b)).parts).toMatchObject([
      { from: 0, count: 2, outputRow: 2, output: { batchId: batch.batchId } },
    ]);
  });

  it('tells who watches a call of its progress and its end, with a small result', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(4);
    const events = shop.collect('call', id);
    await shop.settled();
    await shop.settleOk(await shop.run([id, 0, 2]));
    await shop.settled();
    const batch = await shop.run([id, 2, 2]);
    await shop.settle(batch, [
      { callId: id, from: 2, count: 1, state: 'ok', outputRow: 0 },
      { callId: id, from: 3, count: 1, state: 'failed', error: BOOM },
    ]);
    await shop.settled();
    expect(events).toMatchObject([
      { callId: id, status: 'running', rows: 4, counts: { ok: 2, failed: 0 }, parts: null },
      { callId: id, status: 'failed', rows: 4, counts: { ok: 3, failed: 1 }, queueMs: 0, handlerMs: 4 },
    ]);
    expect(states(events[1]?.parts ?? [])).toEqual(['ok 0+2', 'ok 2+1', 'failed 3+1']);
  });

  it('tells the end of a call that was admitted with `watch`, whenever its watch comes', async () => {
    await using shop = await Workshop.make(factory);
    const early = await shop.admit(1, { watch: true });
    const earlyEnd = ended(shop, early);
    const late = await shop.admit(1, { watch: true });
    const none = await shop.admit(0, { watch: true });
    await shop.settleOk(await shop.run([early, 0, 1], [late, 0, 1]));
    const parts = [{ state: 'ok', from: 0, count: 1 }];
    expect(await earlyEnd).toMatchObject({ status: 'completed', parts });
    expect(await ended(shop, late)).toMatchObject({
      status: 'completed',
      parts: [{ ...parts[0], outputRow: 1 }],
    });
    expect(await ended(shop, none)).toMatchObject({ status: 'completed', parts: [] });
  });

  it('tells a watch on a finished call at once', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(1);
    await shop.fail(await shop.run([id, 0, 1]));
    expect(await ended(shop, id)).toMatchObject({ status: 'failed', counts: { failed: 1 } });
    expect(await ended(shop, id)).toMatchObject({ parts: [{ state: 'failed', error: BOOM }] });
    await shop.reopen();
    expect(await ended(shop, id)).toMatchObject({ status: 'failed' });
  });

  it('tells the watches of cancelled, expired and attached calls', async () => {
    await using shop = await Workshop.make(factory);
    const idempotency = { key: 'k', bodyDigest: 'd' };
    const id = await shop.admit(1, { idempotency });
    const attached = await shop.admitted(1, { idempotency, watch: true });
    expect(attached).toMatchObject({ callId: id, attached: true });
    const end = ended(shop, id);
    await shop.queue.cancel({ now: shop.now, callId: id });
    expect(await end).toMatchObject({ status: 'cancelled', counts: { cancelled: 1 } });
    const late = await shop.admit(1, { deadlineAt: shop.now + 1, watch: true });
    shop.now += 1;
    await shop.expire();
    expect(await ended(shop, late)).toMatchObject({ status: 'expired', parts: [{ state: 'expired' }] });
    const again = await shop.admitted(1, { idempotency, watch: true });
    expect(again).toMatchObject({ attached: true, status: 'cancelled' });
    expect(await ended(shop, id)).toMatchObject({ status: 'cancelled' });
  });

  it('tells who attaches to a call while another one stops watching it', async () => {
    await using shop = await Workshop.make(factory);
    const idempotency = { key: 'k', bodyDigest: 'd' };
    const id = await shop.admit(1, { idempotency, watch: true });
    const stop = shop.queue.watch({ kind: 'call', callId: id }, () => undefined);
    const attaching = shop.admitted(1, { idempotency, watch: true });
    stop();
    await attaching;
    const end = ended(shop, id);
    await shop.queue.cancel({ now: shop.now, callId: id });
    expect(await end).toMatchObject({ status: 'cancelled' });
  });

  it('tells every client of new waiting rows, ready batches and functions', async () => {
    await using shop = await Workshop.make(factory);
    const other = shop.server.connect();
    const seen: unknown[] = [];
    other.queue.watch({ kind: 'waiting' }, (calls) => seen.push(...calls));
    other.queue.watch({ kind: 'ready' }, (ready) => seen.push(ready));
    other.queue.watch({ kind: 'functions' }, (changed) => seen.push(changed));
    // A client is told of the waiting rows of the functions that it owns; the member is the same.
    const query = { now: shop.now, memberId: 'shop', functionName: 'f', leaseMs: LEASE_MS };
    await other.coordination.own(query);
    await other.counters();
    const facts = { lane: 'x', priority: 2, schemaKey: 'k', deadlineAt: shop.now + 9 };
    const id = await shop.admit(3, facts);
    await other.counters();
    await shop.seal([id, 0, 3]);
    await other.counters();
    await shop.store.registry.update({ now: shop.now, name: 'f', update: { paused: true } });
    await other.counters();
    expect(seen).toEqual([
      { ...facts, callId: id, versionId: shop.versionId, from: 0, rows: 3, bytes: 24, arrivedAt: shop.now },
      { versionId: shop.versionId },
      { name: 'f', hasMoved: false },
    ]);
    await other.close();
    await other.close();
    await expect(other.counters()).rejects.toMatchObject({ code: 'shutting_down' });
  });
};
