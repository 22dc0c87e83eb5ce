import { expect, it } from 'vitest';
import type { StoreFactory } from './factory.ts';
import { LEASE_MS, specOf, states, Workshop } from './workshop.ts';

export const endingSuite = (factory: StoreFactory): void => {
  it('cancels what waits, what is sealed and what runs, and keeps what has finished', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(8);
    await shop.settleOk(await shop.run([id, 0, 2]));
    const running = await shop.run([id, 2, 2]);
    await shop.seal([id, 4, 2]);
    const ended = shop.collect('ended');
    await shop.settled();
    expect(await shop.queue.cancel({ now: shop.now, callId: id })).toEqual({ calls: 1, rows: 6 });
    expect(await shop.queue.cancel({ now: shop.now, callId: id })).toEqual({ calls: 0, rows: 0 });
    await shop.settled();
    expect(ended.flat()).toEqual([id]);
    expect(await shop.call(id)).toMatchObject({
      status: 'cancelled',
      counts: { ok: 2, failed: 0, cancelled: 6, expired: 0 },
      finishedAt: shop.now,
    });
    expect(states((await shop.result(id)).parts)).toEqual(['ok 0+2', 'cancelled 2+6']);
    expect(await shop.lease()).toEqual([]);
    expect(await shop.settleOk(running)).toMatchObject({ accepted: true });
    expect(await shop.call(id)).toMatchObject({ counts: { ok: 2, cancelled: 6 } });
    expect(await shop.load()).toMatchObject({ waitingRows: 0, waitingCalls: 0, sealedRows: 0 });
  });

  it('takes the rows of a call that was cancelled between seal and lease out of the batch', async () => {
    await using shop = await Workshop.make(factory);
    const [a, b] = [await shop.admit(1), await shop.admit(2)];
    await shop.seal([a, 0, 1], [b, 0, 2]);
    await shop.queue.cancel({ now: shop.now, callId: a });
    const batch = await shop.leaseOne();
    expect(batch.slices).toEqual([{ callId: b, from: 0, count: 2 }]);
    expect(batch.calls.map(({ callId }) => callId)).toEqual([b]);
    expect(await shop.settleOk(batch)).toMatchObject({ accepted: true });
  });

  it('cancels an unknown call without harm', async () => {
    await using shop = await Workshop.make(factory);
    expect(await shop.queue.cancel({ now: shop.now, callId: 12 })).toEqual({ calls: 0, rows: 0 });
  });

  it('purges all unfinished calls of one function, and only those', async () => {
    await using shop = await Workshop.make(factory);
    const other = await shop.deploy(specOf('g'));
    const finished = await shop.admit(1);
    await shop.settleOk(await shop.run([finished, 0, 1]));
    // More than one script ends at a time.
    const calls = factory.capabilities.uploads ? 1100 : 2500;
    const admissions = Array.from({ length: calls }, () => shop.admit(2));
    const ids = await Promise.all(admissions);
    const kept = await shop.admit(1, { functionName: 'g', versionId: other });
    const running = await shop.run([ids[0]!, 0, 1]);
    expect(await shop.queue.cancel({ now: shop.now, functionName: 'f' })).toEqual({
      calls,
      rows: 2 * calls,
    });
    expect(await shop.call(ids[600]!)).toMatchObject({ status: 'cancelled' });
    expect(await shop.call(finished)).toMatchObject({ status: 'completed' });
    expect(await shop.call(kept)).toMatchObject({ status: 'pending' });
    expect(await shop.load()).toMatchObject({ waitingRows: 0, waitingCalls: 0, sealedRows: 0 });
    expect(await shop.settleOk(running)).toMatchObject({ accepted: true });
    const unknown = shop.queue.cancel({ now: shop.now, functionName: 'nope' });
    await expect(unknown).rejects.toMatchObject({ code: 'function_not_found' });
  });

  it('expires a call that waits at its deadline', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(3, { deadlineAt: shop.now + 100 });
    const ended = shop.collect('ended');
    await shop.settled();
    expect(await shop.expire()).toMatchObject({ calls: 0, nextAt: shop.now + 100 });
    shop.now += 100;
    expect(await shop.expire()).toMatchObject({ calls: 1, nextAt: null, more: false });
    expect(await shop.call(id)).toMatchObject({
      status: 'expired',
      counts: { expired: 3 },
      finishedAt: shop.now,
    });
    expect(states((await shop.result(id)).parts)).toEqual(['expired 0+3']);
    await shop.settled();
    expect(ended.flat()).toEqual([id]);
    expect(await shop.load()).toMatchObject({ waitingRows: 0, waitingCalls: 0 });
  });

  it('lets running rows of an expired call finish, and expires all others', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(10, { deadlineAt: shop.now + 100 });
    await shop.settleOk(await shop.run([id, 0, 2]));
    const running = await shop.run([id, 2, 2]);
    await shop.seal([id, 4, 3]);
    shop.now += 100;
    expect(await shop.expire()).toMatchObject({ calls: 1 });
    expect(await shop.call(id)).toMatchObject({ status: 'running', counts: { ok: 2, expired: 6 } });
    expect(states((await shop.result(id)).parts)).toEqual([
      'ok 0+2',
      'pending 2+2',
      'expired 4+3',
      'expired 7+3',
    ]);
    expect(await shop.lease()).toEqual([]);
    await shop.settleOk(running);
    expect(await shop.call(id)).toMatchObject({
      status: 'expired',
      counts: { ok: 4, failed: 0, expired: 6 },
    });
    expect(await shop.load()).toMatchObject({ waitingRows: 0, waitingCalls: 0, sealedRows: 0 });
  });

  it('expires rows that would run again after the deadline', async () => {
    await using shop = await Workshop.make(factory);
    const [id, other] = [await shop.admit(2, { deadlineAt: shop.now + 100 }), await shop.admit(1)];
    const batch = await shop.run([id, 0, 2], [other, 0, 1]);
    shop.now += 100;
    await shop.expire();
    await shop.settle(batch, [], [shop.continuation(batch.slices)]);
    expect(await shop.call(id)).toMatchObject({ status: 'expired', counts: { expired: 2 } });
    expect((await shop.leaseOne()).slices).toEqual([{ callId: other, from: 0, count: 1 }]);
  });

  it('expires rows of a lost lease after the deadline', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(2, { deadlineAt: shop.now + 100 });
    const batch = await shop.run([id, 0, 2]);
    shop.now += LEASE_MS;
    await shop.expire();
    await shop.expire();
    expect(await shop.call(id)).toMatchObject({ status: 'expired', counts: { expired: 2 } });
    expect(await shop.settleOk(batch)).toMatchObject({ stale: true });
    expect(await shop.lease()).toEqual([]);
  });

  it('ends no lease after a gap between looks until its holder had the time of a heartbeat', async () => {
    await using shop = await Workshop.make(factory);
    const heartbeatMs = LEASE_MS / 3;
    const look = async (ms: number): Promise<number> => {
      shop.now += ms;
      return (await shop.expire(heartbeatMs)).leases;
    };
    /** Looks without a gap, over two heartbeats; how many leases they ended. */
    const watch = async (): Promise<number> => {
      let leases = 0;
      for (let ms = 0; ms < 2 * heartbeatMs; ms += 1000) leases += await look(1000);
      return leases;
    };
    await watch();
    const alive = await shop.run([await shop.admit(1), 0, 1]);
    const dead = await shop.run([await shop.admit(1), 0, 1]);
    // The store was away for longer than the lease.
    expect(await look(LEASE_MS + 1)).toBe(0);
    expect(await look(1000)).toBe(0);
    const { now } = shop;
    await shop.queue.extend({ now, leaseMs: LEASE_MS, leases: [alive] });
    expect(await watch()).toBe(1);
    expect(await shop.settleOk(alive)).toMatchObject({ accepted: true, stale: false });
    expect(await shop.settleOk(dead)).toMatchObject({ accepted: false, stale: true });
    const last = await shop.leaseOne();
    expect(last).toMatchObject({ claims: 1 });
    // Without a gap a lease ends in time.
    for (let ms = 1000; ms < LEASE_MS; ms += 1000) expect(await look(1000)).toBe(0);
    expect(await look(1000)).toBe(1);
  });

  it('never leases a row past its deadline, even before `expired` has looked', async () => {
    await using shop = await Workshop.make(factory);
    const [late, good] = [await shop.admit(1, { deadlineAt: shop.now + 5 }), await shop.admit(1)];
    await shop.seal([late, 0, 1], [good, 0, 1]);
    shop.now += 5;
    expect((await shop.leaseOne()).slices).toEqual([{ callId: good, from: 0, count: 1 }]);
    expect(await shop.call(late)).toMatchObject({ status: 'expired' });
  });

  it('finishes a call in time as completed although its deadline passes later', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(1, { deadlineAt: shop.now + 5 });
    const batch = await shop.run([id, 0, 1]);
    shop.now += 50;
    await shop.expire();
    await shop.settleOk(batch);
    expect(await shop.call(id)).toMatchObject({ status: 'completed', counts: { ok: 1, expired: 0 } });
    expect(await shop.expire()).toMatchObject({ calls: 0, nextAt: null });
  });

  it('does a limited share of what is due at once', async () => {
    await using shop = await Workshop.make(factory);
    for (let i = 0; i < 5; i += 1) await shop.admit(1, { deadlineAt: shop.now + 1 });
    shop.now += 1;
    const share = { now: shop.now, claimsMax: 5, limit: 3 };
    expect(await shop.queue.expired(share)).toMatchObject({ calls: 3, more: true });
    expect(await shop.queue.expired(share)).toMatchObject({ calls: 2, more: false });
  });
};
