import { afterAll, beforeAll, expect, it } from 'vitest';
import type { CallEvent, WatchQuery } from '../../../shared/store/ports/queue.ts';
import { parseAddress } from '../../../shared/store/redis/address.ts';
import { BullDispatch } from '../../../shared/store/redis/bull-dispatch.ts';
import { batchIdOf, Layout, versionIdOf } from '../../../shared/store/redis/layout.ts';
import { Subscriber } from '../../../shared/store/redis/subscriber.ts';
import type { Workshop } from '../../contract/workshop.ts';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { makeShop, newPrefix } from './homes.ts';
import { QueueRig } from './queue-rig.ts';

let server: RedisServer;

const heard = (shop: Workshop, callId: number, interest: WatchQuery<'call'>['interest']): CallEvent[] => {
  const events: CallEvent[] = [];
  shop.queue.watch({ kind: 'call', callId, ...(interest && { interest }) }, (event) => events.push(event));
  return events;
};

/** Ends when all that was told has been heard, and what was asked for then has been answered. */
const caughtUp = async (shop: Workshop, callId: number): Promise<void> => {
  await shop.settled();
  await shop.call(callId);
};

const forgetOutputs = (prefix: string): Promise<number> =>
  server.ask(async (redis) => {
    const keys = await redis.keys(`{${prefix}:*`);
    return redis.unlink(...keys.filter((key) => /:(output|bytes):\d+$/.test(key)));
  });

/** A call of two rows, the first of which was settled while it was watched. */
const halfDone = async (shop: Workshop, interest: WatchQuery<'call'>['interest'], bytes: number) => {
  const id = await shop.admit(2);
  const events = heard(shop, id, interest);
  await caughtUp(shop, id);
  await shop.settleOk(await shop.run([id, 0, 1]), bytes);
  await caughtUp(shop, id);
  return { id, events };
};

describeWithRedis('a call that is waited for', () => {
  beforeAll(async () => {
    server = await RedisServer.start({ aof: 'no' });
  });
  afterAll(() => server.stop());

  it.each([64, 100_000])('has its outputs of %d bytes read as they settle', async (bytes) => {
    const prefix = newPrefix();
    await using shop = await makeShop(server.url, prefix);
    const { id, events } = await halfDone(shop, 'result', bytes);
    expect(await forgetOutputs(prefix)).toBeGreaterThan(0);
    await shop.settleOk(await shop.run([id, 1, 1]), bytes);
    await caughtUp(shop, id);
    expect(events.map(({ status }) => status)).toEqual(['completed']);
    expect((await shop.result(id)).parts.map(({ state, count }) => [state, count])).toEqual([
      ['ok', 1],
      ['ok', 1],
    ]);
  });

  it('has no outputs read where its end alone is waited for', async () => {
    const prefix = newPrefix();
    await using shop = await makeShop(server.url, prefix);
    const { id, events } = await halfDone(shop, 'end', 64);
    await forgetOutputs(prefix);
    await shop.settleOk(await shop.run([id, 1, 1]));
    await caughtUp(shop, id);
    expect(events.map(({ status, parts }) => [status, parts])).toEqual([['completed', null]]);
    expect(await shop.queue.result({ callId: id, from: 0, bytesMax: 2 ** 20 })).toBe('gone');
  });

  it('tells its advances as well to who asks for them', async () => {
    await using shop = await makeShop(server.url);
    const { id, events } = await halfDone(shop, undefined, 64);
    await shop.settleOk(await shop.run([id, 1, 1]));
    await caughtUp(shop, id);
    expect(events.map(({ counts }) => counts.ok)).toEqual([1, 2]);
  });

  it('hears of its end from a process that tells only its id', async () => {
    const prefix = newPrefix();
    await using shop = await makeShop(server.url, prefix);
    const { id, events } = await halfDone(shop, 'end', 64);
    const before = shop.collect('functions').length;
    const channel = new Layout(prefix).channel(Math.floor(id / 2 ** 39), 'calls');
    await server.ask((redis) => redis.publish(channel, String(id)));
    await caughtUp(shop, id);
    // Looked at, and found to go on.
    expect(events.map(({ status }) => status)).toEqual(['running']);
    expect(before).toBe(0);
  });
});

describeWithRedis('a dispatcher', () => {
  beforeAll(async () => {
    server = await RedisServer.start({ aof: 'no' });
  });
  afterAll(() => server.stop());

  it('publishes behind the jobs that it was asked to add', async () => {
    const [address, layout] = [parseAddress(server.url), new Layout(newPrefix())];
    const version = versionIdOf(1, 1);
    const make = () => new BullDispatch({ address, layout, name: 'test', replyMs: 5000 });
    const [adder, taker] = [make(), make()];
    const subscriber = new Subscriber(address, 'test-sub', () => []);
    const said: string[] = [];
    let next = Promise.withResolvers<void>();
    await subscriber.add('said', (text) => {
      said.push(text);
      next.resolve();
    });
    for (let turn = 1; turn <= 20; turn += 1) {
      const adding = adder.add(version, batchIdOf(1, turn), turn, null);
      await Promise.all([adder.tell!('said', String(turn)), next.promise]);
      next = Promise.withResolvers();
      expect((await taker.take(version, 'w', 1, 1000)).map(({ attempt }) => attempt)).toEqual([turn]);
      await adding;
    }
    expect(said).toHaveLength(20);
    subscriber.close();
    await Promise.all([adder.close(), taker.close()]);
  });

  it('whose connection has gone leaves its batches in the outbox, and workers are told of them', async () => {
    const [address, layout] = [parseAddress(server.url), new Layout(newPrefix())];
    const dispatch = new BullDispatch({ address, layout, name: 'test', replyMs: 5000 });
    await dispatch.close();
    await using rig = await QueueRig.open(server.url, newPrefix(), dispatch);
    const said: string[] = [];
    const { subscriber } = rig.link;
    await subscriber.addPattern(rig.layout.channels('ready'), (text) => said.push(text));
    await rig.seal(await rig.admit(1), 0, 1);
    await subscriber.ping();
    expect(said).toEqual([`${rig.versionId} 1`]);
    expect(await rig.lease()).toHaveLength(1);
  });
});
