import { expect, it } from 'vitest';
import type { StoreFactory } from './factory.ts';
import { states, Workshop } from './workshop.ts';

export const restartSuite = (factory: StoreFactory): void => {
  it('goes on with what waits', async () => {
    await using shop = await Workshop.make(factory);
    const { generation } = shop.queue;
    const id = await shop.admit(5, {
      lane: 'l',
      priority: 3,
      metadata: { a: 'b' },
      deadlineAt: shop.now + 1e9,
    });
    const before = await shop.call(id);
    await shop.reopen();
    expect(shop.queue.generation).toBe(generation);
    expect(await shop.call(id)).toEqual(before);
    expect(await shop.load()).toMatchObject({ waitingRows: 5, waitingCalls: 1, oldestAt: shop.now });
    expect((await shop.queue.open({ versionId: null, after: 0, limit: 9 })).calls).toMatchObject([
      { callId: id, from: 0 },
    ]);
    expect(await shop.admit(1)).toBeGreaterThan(id);
    await shop.settleOk(await shop.run([id, 0, 5]));
    expect(await shop.call(id)).toMatchObject({ status: 'completed' });
  });

  it.skipIf(factory.capabilities.keepsLeases)(
    'leases sealed and leased batches again, at no cost',
    async () => {
      await using shop = await Workshop.make(factory);
      const [a, b] = [await shop.admit(3), await shop.admit(2)];
      const leased = await shop.run([a, 0, 2]);
      const { batchId } = await shop.seal([a, 2, 1], [b, 0, 1]);
      await shop.reopen();
      expect(await shop.load()).toMatchObject({ waitingRows: 1, waitingCalls: 1, sealedRows: 4 });
      expect(await shop.settleOk(leased)).toMatchObject({ stale: true });
      const batches = await shop.lease(5);
      expect(batches).toMatchObject([
        { batchId: leased.batchId, slices: leased.slices, claims: 0, attempts: 0 },
        { batchId, slices: [{ callId: a }, { callId: b }] },
      ]);
      for (const batch of batches) await shop.settleOk(batch);
      expect(await shop.call(a)).toMatchObject({ status: 'completed', counts: { ok: 3 } });
      expect(await shop.call(b)).toMatchObject({ status: 'running', counts: { ok: 1 } });
    },
  );

  it('keeps the parts, counters and times of calls that are half done', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(6);
    await shop.settleOk(await shop.run([id, 0, 2]));
    await shop.fail(await shop.run([id, 2, 2]));
    const before = { call: await shop.call(id), parts: states((await shop.result(id)).parts) };
    await shop.reopen();
    expect({ call: await shop.call(id), parts: states((await shop.result(id)).parts) }).toEqual(before);
    await shop.settleOk(await shop.run([id, 4, 2]));
    expect(await shop.call(id)).toMatchObject({ status: 'failed', counts: { ok: 4, failed: 2 } });
    await shop.reopen();
    expect(states((await shop.result(id)).parts)).toEqual(['ok 0+2', 'failed 2+2', 'ok 4+2']);
  });

  it('keeps attempts, claims, mode and back-off of a retry', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(2);
    const batch = await shop.run([id, 0, 2]);
    const notBefore = shop.now + 500;
    const changes = { attempts: 2, claims: 1, mode: 'isolate', notBefore } as const;
    await shop.settle(batch, [], [shop.continuation(batch.slices, changes)]);
    await shop.reopen();
    expect(await shop.lease()).toEqual([]);
    expect(await shop.expire()).toMatchObject({ nextAt: notBefore });
    shop.now = notBefore;
    expect(await shop.leaseOne()).toMatchObject({
      batchId: batch.batchId,
      attempts: 2,
      claims: 1,
      mode: 'isolate',
    });
  });

  it('forgets cancelled rows of sealed batches', async () => {
    await using shop = await Workshop.make(factory);
    const [a, b, c] = [await shop.admit(1), await shop.admit(1), await shop.admit(1)];
    await shop.seal([a, 0, 1], [b, 0, 1]);
    await shop.seal([c, 0, 1]);
    await shop.queue.cancel({ now: shop.now, callId: a });
    await shop.queue.cancel({ now: shop.now, callId: c });
    await shop.reopen();
    expect(await shop.call(a)).toMatchObject({ status: 'cancelled' });
    expect((await shop.lease(5)).map(({ slices }) => slices)).toEqual([[{ callId: b, from: 0, count: 1 }]]);
  });

  it.skipIf(factory.capabilities.keepsLeases)(
    'expires the rest of a call whose deadline passed while rows ran',
    async () => {
      await using shop = await Workshop.make(factory);
      const id = await shop.admit(6, { deadlineAt: shop.now + 10 });
      await shop.run([id, 0, 2]);
      await shop.seal([id, 2, 2]);
      shop.now += 10;
      await shop.expire();
      expect(await shop.call(id)).toMatchObject({ status: 'running', counts: { expired: 4 } });
      await shop.reopen();
      await shop.expire();
      expect(await shop.call(id)).toMatchObject({ status: 'expired', counts: { ok: 0, expired: 6 } });
      expect(await shop.load()).toMatchObject({ waitingRows: 0, waitingCalls: 0, sealedRows: 0 });
    },
  );

  it('keeps functions, their updates and their pause', async () => {
    await using shop = await Workshop.make(factory);
    const update = { paused: true, batching: { durationMs: 77 } };
    await shop.store.registry.update({ now: shop.now, name: 'f', update });
    const before = await shop.store.registry.functions();
    await shop.close();
    shop.server = await shop.home.open();
    shop.store = shop.server.connect();
    expect(await shop.store.registry.functions()).toEqual(before);
  });
};
