import { afterAll, beforeAll, expect, it } from 'vitest';
import { serialOfId } from '../../../shared/store/redis/layout.ts';
import { LIMITS } from '../../contract/factory.ts';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { makeShop, newPrefix } from './homes.ts';
import { FENCE, QueueRig, RETENTION_MS, UnreliableDispatch } from './queue-rig.ts';

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

  it('releases the records of a call with many parts in steps that are short for all others, each once', async () => {
    await using rig = await QueueRig.open(server.url, 'records');
    const base = await rig.keys();
    const withTtl = async (): Promise<number> => {
      let count = 0;
      for (const key of await rig.keys())
        if (key.startsWith('output:') && (await rig.command<number>('PTTL', key)) > 0) count += 1;
      return count;
    };
    const [call, small] = [await rig.admit(601), await rig.admit(2)];
    const slices = [
      { callId: call, from: 299, count: 3 },
      { callId: small, from: 0, count: 1 },
    ];
    const { now, versionId } = rig;
    const single = async (from: number): Promise<void> => {
      await rig.seal(call, from, 1);
    };
    for (let from = 0; from < 299; from += 1) await single(from);
    await rig.queue.seal({ now, versionId, slices, reason: 'size', fence: FENCE });
    for (let from = 302; from < 601; from += 1) await single(from);
    const batches = [...(await rig.lease(1000))];
    const shared = batches.splice(299, 1)[0]!;
    const error = { code: 'handler_error', message: 'no' } as const;
    const outcomes = [
      { callId: call, from: 299, count: 1, state: 'ok', outputRow: 0 },
      { callId: call, from: 300, count: 1, state: 'failed', error },
      { callId: call, from: 301, count: 1, state: 'ok', outputRow: 2 },
      { callId: small, from: 0, count: 1, state: 'ok', outputRow: 3 },
    ] as const;
    const run = { continuations: [], output: new Uint8Array(8), startedAt: now, handlerMs: 1 };
    const { batchId, token } = shared;
    await rig.queue.settle({ now, batchId, token, outcomes, ...run });
    for (const batch of batches) await rig.settle(batch);
    // The last one has no call that is not finished; the others are looked at by the sweep.
    expect(await withTtl()).toBe(1);
    expect(await rig.sweep()).toEqual([0, 1]);
    expect(await withTtl()).toBe(300);
    expect(await rig.sweep()).toEqual([0, 1]);
    expect(await rig.sweep()).toEqual([0, 0]);
    expect(await withTtl()).toBe(598);
    const record = `output:${serialOfId(batchId)}`;
    expect(await rig.command('HMGET', record, 'r', 'u')).toEqual([Buffer.from('2'), Buffer.from('1')]);
    await rig.seal(small, 1, 1);
    await rig.settle((await rig.lease())[0]!);
    expect(await withTtl()).toBe(600);

    rig.now += RETENTION_MS;
    expect(await rig.sweep()).toEqual([2, 1]);
    expect(await rig.command('HGET', record, 'r')).toEqual(Buffer.from('1'));
    expect(await rig.queue.call(call)).toBe('gone');
    for (const left of [299, 1]) {
      expect(await rig.sweep()).toEqual([0, 1]);
      expect((await rig.keys()).filter((key) => key.startsWith('output:'))).toHaveLength(left);
    }
    expect(await rig.sweep()).toEqual([0, 0]);
    expect(await rig.keys()).toEqual([...base, 'queue', 'told', 'waiting'].toSorted());
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
