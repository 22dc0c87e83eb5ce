import { Queue } from 'bullmq';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { CallEvent } from '../../../shared/store/ports/queue.ts';
import type { Store } from '../../../shared/store/ports/store.ts';
import { functionOfVersion, Layout, serialOfVersion } from '../../../shared/store/redis/layout.ts';
import { scripts } from '../../../shared/store/redis/scripts.ts';
import { LIMITS } from '../../contract/factory.ts';
import { LEASE_MS, specOf } from '../../contract/workshop.ts';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { eventually } from '../../support/sluice-process.ts';
import { makeShop, newPrefix, openStore } from './homes.ts';

let server: RedisServer;

const ended = (store: Store, callId: number): Promise<CallEvent> =>
  new Promise((resolve) => {
    store.queue.watch({ kind: 'call', callId }, (event) => {
      if (event.status !== 'running') resolve(event);
    });
  });

describeWithRedis('processes that share a store', () => {
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server.stop());

  it('give each buffer one owner at a time', async () => {
    await using shop = await makeShop(server.url);
    const other = shop.server.connect();
    const ask = (store: Store, memberId: string, now: number) =>
      store.coordination.own({ now, memberId, functionName: 'f', leaseMs: LEASE_MS });
    expect(await ask(other, 'b', shop.now)).toBeNull();
    const later = shop.now + LEASE_MS - 1;
    expect(await ask(shop.store, 'shop', later)).toEqual({ fence: shop.fence, until: later + LEASE_MS });
    expect(await ask(other, 'b', shop.now + LEASE_MS)).toBeNull();
    const taken = await ask(other, 'b', later + LEASE_MS);
    expect(taken).toMatchObject({ fence: expect.not.stringMatching(shop.fence) });
    const id = await shop.admit(1);
    expect(await shop.seal([id, 0, 1])).toMatchObject({ fenced: true, batchId: null, refused: [] });
    shop.fence = taken!.fence;
    expect(await shop.seal([id, 0, 1])).toMatchObject({ fenced: false, refused: [] });
    await shop.store.coordination.disown({ memberId: 'shop', functionName: 'f' });
    expect(await ask(shop.store, 'shop', later + LEASE_MS)).toBeNull();
    await other.coordination.disown({ memberId: 'b', functionName: 'f' });
    expect(await ask(shop.store, 'shop', later + LEASE_MS)).not.toBeNull();
    expect(await ask(shop.store, 'shop', 0).then((owned) => owned?.fence)).not.toBe(taken!.fence);
    const missing = { now: 0, memberId: 'b', functionName: 'nope', leaseMs: 1 };
    expect(await other.coordination.own(missing)).toBeNull();
  });

  it('know who else buffers', async () => {
    await using shop = await makeShop(server.url);
    const { coordination } = shop.store;
    const join = (memberId: string, now: number) => coordination.join({ now, memberId, until: now + 10 });
    expect(await join('b', 100)).toEqual(['b']);
    expect(await join('a', 105)).toEqual(['a', 'b']);
    expect(await join('a', 110)).toEqual(['a']);
    await coordination.leave('a');
    expect(await join('c', 110)).toEqual(['c']);
  });

  it('end no lease just after they took the function: it may have been without an owner, as the store was away', async () => {
    await using shop = await makeShop(server.url);
    const heartbeatMs = LEASE_MS / 3;
    const look = async (store: Store, ms: number): Promise<number> => {
      shop.now += ms;
      const query = { now: shop.now, claimsMax: 5, limit: 100, heartbeatMs };
      return (await store.queue.expired(query)).leases;
    };
    const other = shop.server.connect();
    // It looks all the time, at nothing.
    for (let ms = 0; ms < 2 * LEASE_MS; ms += 1000) await look(other, 1000);
    const batch = await shop.run([await shop.admit(1), 0, 1]);
    shop.now += LEASE_MS;
    await look(other, 1000);
    const { now } = shop;
    await other.coordination.own({ now, memberId: 'b', functionName: 'f', leaseMs: LEASE_MS });
    for (let ms = 0; ms <= heartbeatMs; ms += 1000) expect(await look(other, 1000)).toBe(0);
    for (let ms = 0, leases = 0; leases === 0 && ms < heartbeatMs; ms += 1000)
      leases += await look(other, 1000);
    expect(await shop.leaseOne()).toMatchObject({ batchId: batch.batchId, claims: 1 });
  });

  it('tell only the owner of waiting rows, from its taking on', async () => {
    await using shop = await makeShop(server.url);
    const other = shop.server.connect();
    const [seen, others] = [shop.collect('waiting'), [] as number[]];
    other.queue.watch({ kind: 'waiting' }, (calls) => others.push(...calls.map(({ callId }) => callId)));
    const first = await shop.admit(1);
    await shop.settled();
    await other.counters();
    expect(seen.flat().map(({ callId }) => callId)).toEqual([first]);
    expect(others).toEqual([]);
    await shop.store.coordination.disown({ memberId: 'shop', functionName: 'f' });
    await other.coordination.own({ now: shop.now, memberId: 'b', functionName: 'f', leaseMs: LEASE_MS });
    const second = await shop.admit(1);
    await other.counters();
    expect(others).toEqual([second]);
    expect((await other.queue.open({ versionId: null, after: 0, limit: 9 })).calls).toHaveLength(2);
  });

  it('hear what they missed while their subscription was cut', async () => {
    await using shop = await makeShop(server.url);
    await shop.offer(1);
    const [waiting, slots, ready] = [shop.collect('waiting'), shop.collect('slots'), shop.collect('ready')];
    const names = shop.collect('functions');
    const id = await shop.admit(1);
    const end = ended(shop.store, id);
    await shop.settled();
    const before = waiting.length;
    const deaf = (async () => {
      await server.ask((redis) => redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub'));
      const another = await shop.admit(2);
      await shop.offer(3);
      await shop.deploy(specOf('g'));
      const batch = await shop.run([id, 0, 1]);
      await shop.seal([another, 0, 1]);
      await shop.settleOk(batch);
      return another;
    })();
    expect(await end).toMatchObject({ status: 'completed' });
    const another = await deaf;
    await eventually('the rows are told', async () =>
      waiting.slice(before).some((calls) => calls.some(({ callId }) => callId === another)),
    );
    // Three were offered, one is leased, and one batch waits for another.
    await eventually('the slots are told', async () => slots.at(-1)?.idle === 1);
    await eventually('the ready batch is told', async () => ready.length > 0);
    await eventually('the function is told', async () => names.some(({ name }) => name === 'g'));
  });

  it('hear that calls moved to another version although nobody heard the message', async () => {
    const prefix = newPrefix();
    await using shop = await makeShop(server.url, prefix);
    await shop.admit(1);
    const next = await shop.deploy(specOf('f', { callTimeoutMs: 2000 }));
    const names = shop.collect('functions');
    await shop.settled();
    const [layout, { generation }] = [new Layout(prefix), shop.queue];
    const key = layout.key(functionOfVersion(next), 'generation');
    const versions = [shop.versionId, next].map(serialOfVersion);
    const args = [generation, shop.now, 0, ...versions, 0, 2 ** 39, 100];
    const move = scripts().get('move')!.text;
    const [, [, moved]] = (await server.ask((redis) =>
      redis
        .multi()
        .call('CLIENT', 'KILL', 'TYPE', 'pubsub')
        .eval(move, 1, key, ...args)
        .exec(),
    )) as [unknown, [null, number[]]];
    expect(moved).toEqual([1, 0]);
    expect(names).toEqual([]);
    await eventually('the function is told', async () => names.length > 0);
    expect(names).toEqual([{ name: 'f', hasMoved: true }]);
  });

  it('let a call that nobody made name nothing', async () => {
    await using shop = await makeShop(server.url);
    const foreign = 500_000 * 2 ** 32 + 7;
    expect(await shop.queue.call(foreign)).toBeUndefined();
    expect(await shop.queue.result({ callId: foreign, from: 0, bytesMax: 1 })).toBeUndefined();
    expect(await shop.queue.cancel({ now: shop.now, callId: foreign })).toEqual({ calls: 0, rows: 0 });
    expect(await shop.admit(1)).toBeGreaterThan(0);
  });

  it('deploy the same new function at the same moment as one', async () => {
    const prefix = newPrefix();
    const [a, b] = [await openStore(server.url, prefix), await openStore(server.url, prefix)];
    const deploys = [a, b, a, b].map((one, index) =>
      one.connect().registry.deploy({ now: index, spec: specOf('g') }),
    );
    const ids = (await Promise.all(deploys)).map(({ record }) => record.current.id);
    expect(new Set(ids).size).toBe(1);
    expect(await a.connect().registry.functions()).toHaveLength(1);
    await Promise.all([a.close(), b.close()]);
  });

  it('keep no more of a call of many rows than of one of few', async () => {
    const bytes = new Uint8Array(20_000).fill(1);
    /** Keys and bytes of a call while it waits, and when its one slice has ended. */
    const keptOf = async (rows: number): Promise<number[]> => {
      const prefix = newPrefix();
      await using shop = await makeShop(server.url, prefix);
      const kept = (): Promise<[number, number]> =>
        server.ask(async (redis) => {
          const keys = await redis.keys(`{${prefix}:*`);
          const sizes = await Promise.all(keys.map((key) => redis.memory('USAGE', key)));
          return [keys.length, sizes.reduce((sum: number, size) => sum + (size ?? 0), 0)];
        });
      const id = await shop.admit(rows, { bytes: bytes.length, payload: { kind: 'arrow', bytes } });
      const waiting = await kept();
      await shop.settleOk(await shop.run([id, 0, rows]), 20_000);
      // That a batch is over is told to BullMQ behind the answer.
      const jobs = () => server.ask((redis) => redis.keys(`{${prefix}:*:b-*`));
      await eventually('its job is gone', async () => (await jobs()).length === 0);
      return [...waiting, ...(await kept())];
    };
    const [few, many] = [await keptOf(10), await keptOf(100_000)];
    expect([many[0], many[2]]).toEqual([few[0], few[2]]);
    expect(many[1]! - few[1]!).toBeLessThan(1000);
    expect(many[3]! - few[3]!).toBeLessThan(1000);
  });

  it('show their queues to the tools of BullMQ, and leave nothing in them', async () => {
    const prefix = newPrefix();
    await using shop = await makeShop(server.url, prefix);
    const bull = new Layout(prefix).bull(shop.versionId);
    const connection = { host: '127.0.0.1', port: server.port };
    // As docs/OPERATIONS.md has it.
    const numbers = await server.ask((redis) => redis.hgetall(`{${prefix}}:functions`));
    const outside = new Queue(bull.name, { connection, prefix: `{${prefix}:${numbers.f}}:bull` });
    const counts = () => outside.getJobCounts('waiting', 'active', 'completed', 'failed', 'delayed');
    const none = { waiting: 0, active: 0, completed: 0, failed: 0, delayed: 0 };
    const ids = [await shop.admit(1), await shop.admit(1)];
    for (const id of ids) await shop.seal([id, 0, 1]);
    const metas = await server.ask((redis) => redis.keys(`{${prefix}:*}:bull:v*:meta`));
    expect(metas).toEqual([`{${prefix}:${numbers.f}}:bull:${bull.name}:meta`]);
    expect(await counts()).toEqual({ ...none, waiting: 2 });
    const batch = await shop.leaseOne();
    expect(await counts()).toEqual({ ...none, waiting: 1, active: 1 });
    const [job] = await outside.getJobs(['active']);
    expect(job).toMatchObject({ id: `b-${batch.batchId}-1`, data: { batch: batch.batchId, attempt: 1 } });
    await shop.settleOk(batch);
    const second = await shop.leaseOne();
    await shop.settle(second, [], [shop.continuation(second.slices)]);
    const again = await shop.leaseOne();
    await shop.queue.release({ now: shop.now, batchId: again.batchId, token: again.token });
    await shop.settleOk(await shop.leaseOne());
    // That a batch is over is told to BullMQ behind the answer.
    await eventually('no job is left', async () => (await counts()).active === 0);
    expect(await counts()).toEqual(none);
    const keys = await server.ask((redis) => redis.keys(`${bull.prefix}*`));
    expect(keys.filter((key) => key.includes(':b-'))).toEqual([]);
    await outside.close();
  });

  it('forget a removed function but for its counters, and give its name to another', async () => {
    const prefix = newPrefix();
    await using shop = await makeShop(server.url, prefix);
    const { registry, retention } = shop.store;
    const id = await shop.admit(1);
    await shop.settleOk(await shop.run([id, 0, 1]));
    await registry.remove('f');
    shop.now += 10 * LIMITS.retentionMs;
    for (let left = true; left; ) left = await retention.sweep({ now: shop.now, limit: 100 });
    const kept = await server.ask((redis) => redis.keys(`{${prefix}:*`));
    const names = kept.map((key) => key.slice(key.indexOf('}:') + 2));
    expect(names.toSorted()).toEqual(['generation', 'queue']);
    expect(await shop.queue.call(id)).toBe('gone');
    const version = await shop.deploy(specOf('f'));
    expect(version).toBeGreaterThan(shop.versionId);
    await shop.own('f');
    shop.versionId = version;
    expect(await shop.admit(1)).toBeGreaterThan(id);
  });

  it('lease what a dead worker held, whatever its job became', async () => {
    await using shop = await makeShop(server.url);
    const id = await shop.admit(1);
    const lost = await shop.run([id, 0, 1]);
    shop.now += LEASE_MS;
    await shop.expire();
    const batch = await shop.leaseOne();
    expect(batch).toMatchObject({ batchId: lost.batchId, claims: 1 });
    expect(await shop.settleOk(lost)).toMatchObject({ stale: true });
    expect(await shop.settleOk(batch)).toMatchObject({ accepted: true });
  });
});
