import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { eventually } from '../../support/sluice-process.ts';
import { makeShop } from './homes.ts';

let server: RedisServer;

describeWithRedis('the slots that a buffer is told of', () => {
  beforeAll(async () => {
    server = await RedisServer.start({ aof: 'no' });
  });
  afterAll(() => server.stop());

  it('are those after its seal before the seal is answered, whatever becomes of the message', async () => {
    await using shop = await makeShop(server.url);
    const slots = shop.collect('slots');
    await shop.offer(1, 1);
    await shop.settled();
    expect(slots.at(-1)).toMatchObject({ idle: 1, prefetch: 1 });
    const ids = [await shop.admit(1), await shop.admit(1)];
    await server.ask((redis) => redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub'));
    await shop.seal([ids[0]!, 0, 1]);
    expect(slots.at(-1)).toMatchObject({ idle: 0, prefetch: 1 });
    await shop.seal([ids[1]!, 0, 1]);
    expect(slots.at(-1)).toMatchObject({ idle: 0, prefetch: 0 });
  });

  it('go on to be told after the server has lost what it told last', async () => {
    await using shop = await makeShop(server.url);
    const slots = shop.collect('slots');
    for (const idle of [1, 2, 3, 2]) await shop.offer(idle);
    await shop.settled();
    expect(slots.at(-1)).toMatchObject({ idle: 2 });
    await server.ask(async (redis) => {
      for (const key of await redis.keys(`*}:queue`)) await redis.hset(key, 'told', 1);
    });
    await shop.offer(5);
    await eventually('the slots are told', async () => slots.at(-1)?.idle === 5);
  });
});
