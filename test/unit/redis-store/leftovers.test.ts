import { afterAll, beforeAll, expect, it } from 'vitest';
import { LIMITS } from '../../contract/factory.ts';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { makeShop, newPrefix } from './homes.ts';
import { FENCE, QueueRig, UnreliableDispatch } from './queue-rig.ts';

let server: RedisServer;

describeWithRedis('a store over time', () => {
  beforeAll(async () => {
    server = await RedisServer.start({ aof: 'no' });
  });
  afterAll(() => server.stop());

  it('sweeps the calls of a removed function, which no buffer owns', async () => {
    const prefix = newPrefix();
    await using shop = await makeShop(server.url, prefix);
    const { registry, retention, coordination } = shop.store;
    await shop.settleOk(await shop.run([await shop.admit(1), 0, 1]));
    await registry.remove('f');
    await coordination.disown({ memberId: 'shop', functionName: 'f' });
    for (let look = 0; look < 3; look += 1) {
      shop.now += LIMITS.retentionMs;
      await retention.sweep({ now: shop.now, limit: 100 });
    }
    const kept = await server.ask((redis) => redis.keys(`{${prefix}:*`));
    const names = kept.map((key) => key.slice(key.indexOf('}:') + 2));
    expect(names.toSorted()).toEqual(['generation', 'queue']);
    expect(await registry.functions()).toEqual([]);
  });

  it('settles what was asked before it was closed, also what waits for its turn to write', async () => {
    await using shop = await makeShop(server.url);
    const batches = [];
    for (let count = 0; count < 4; count += 1) batches.push(await shop.run([await shop.admit(1), 0, 1]));
    const settling = batches.map((batch) => shop.settleOk(batch, 2 ** 21));
    await shop.store.close();
    for (const answer of await Promise.all(settling)) expect(answer.accepted).toBe(true);
  });

  it('keeps an idempotency key that was used again when its first call is swept late', async () => {
    await using rig = await QueueRig.open(server.url, 'again');
    const first = await rig.admit(1, 60, 'k');
    await rig.queue.cancel({ now: rig.now, callId: first });
    // As its time to live does.
    await rig.command('DEL', 'idempotency:0:k');
    const second = await rig.admit(1, 60, 'k');
    expect(second).not.toBe(first);
    await rig.passRetention();
    expect(await rig.queue.call(first)).toBe('gone');
    expect(await rig.admit(1, 60, 'k')).toBe(second);
  });

  it('ends the leases of many slices in steps that are short for all others', async () => {
    await using rig = await QueueRig.open(server.url, 'steps');
    for (let count = 0; count < 2; count += 1) {
      const ids = await Promise.all(Array.from({ length: 6000 }, () => rig.admit(1)));
      const slices = ids.map((callId) => ({ callId, from: 0, count: 1 }));
      const { now, versionId } = rig;
      await rig.queue.seal({ now, versionId, slices, reason: 'size', fence: FENCE });
    }
    expect(await rig.lease(2)).toHaveLength(2);
    rig.now += 30_000;
    expect(await rig.expire()).toMatchObject({ leases: 1, more: true });
    expect(await rig.expire()).toMatchObject({ leases: 1, more: false });
    expect(await rig.lease(2)).toMatchObject([{ claims: 1 }, { claims: 1 }]);
  });

  it.each([
    ['the order of the store', () => null],
    ['the order of a dispatcher', () => new UnreliableDispatch()],
  ])(
    'leases batches of many slices in %s, a script for as many slices as are short for all others',
    async (order, make) => {
      await using rig = await QueueRig.open(server.url, `leases of ${order.length}`, make());
      for (const rows of [1500, 1500, 100, 2500]) {
        const ids = await Promise.all(Array.from({ length: rows }, () => rig.admit(1)));
        const slices = ids.map((callId) => ({ callId, from: 0, count: 1 }));
        const { now, versionId } = rig;
        await rig.queue.seal({ now, versionId, slices, reason: 'size', fence: FENCE });
      }
      const { context } = rig;
      const before = context.counters.verbs ?? 0;
      const leased = await rig.lease(4);
      expect(leased.map(({ slices }) => slices.length).toSorted((a, b) => a - b)).toEqual([
        100, 1500, 1500, 2500,
      ]);
      expect((context.counters.verbs ?? 0) - before).toBe(3);
      expect(await rig.lease(4)).toEqual([]);
    },
  );
});
