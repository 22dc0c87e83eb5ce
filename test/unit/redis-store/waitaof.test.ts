/** Admissions that wait for disks (`--redis-waitaof`). Redis 7.2 and newer, and Valkey, can; older ones are refused. */
import { expect, it } from 'vitest';
import type { RedisOptions } from '../../../shared/store/ports/server.ts';
import { parseAddress } from '../../../shared/store/redis/address.ts';
import { readDurability } from '../../../shared/store/redis/health.ts';
import { Link } from '../../../shared/store/redis/link.ts';
import { describeWithRedis, hasWaitaof, RedisSentinels, RedisServer } from '../../support/redis-servers.ts';
import { openRedis } from '../../support/redis-store.ts';
import { eventually } from '../../support/sluice-process.ts';
import { WaitaofProxy } from '../../support/waitaof-proxy.ts';
import { makeShop, newPrefix } from './homes.ts';

/** A link to a server that says it is of a version which knows WAITAOF. */
class NewerLink extends Link {
  override async everywhere(name: string, ...args: string[]): Promise<string[]> {
    const told = await super.everywhere(name, ...args);
    return told.map((text) => text.replace(/^redis_version:.*$/m, 'redis_version:7.2.0\r'));
  }
}

const waitingFor = (waitReplicas: number): Partial<RedisOptions> => ({ waitReplicas });

const UNCONFIRMED = {
  code: 'store_unavailable',
  message: expect.stringContaining('0 of 1 replicas confirmed'),
};

type Replica = AsyncDisposable & {
  readonly url: string;
  readonly stop: () => void;
  readonly goOn: () => void;
};

const startReplica = async (): Promise<Replica> => {
  const sentinels = await RedisSentinels.start();
  return {
    url: sentinels.master.url,
    stop: () => sentinels.replica.signal('SIGSTOP'),
    goOn: () => sentinels.replica.signal('SIGCONT'),
    [Symbol.asyncDispose]: () => sentinels[Symbol.asyncDispose](),
  };
};

const startStandIn = async (): Promise<Replica> => {
  const servers = new AsyncDisposableStack();
  const server = servers.use(await RedisServer.start());
  const proxy = servers.use(await WaitaofProxy.start(server.port));
  return {
    url: proxy.url,
    stop: () => {
      proxy.replicas = 0;
    },
    goOn: () => {
      proxy.replicas = 1;
    },
    [Symbol.asyncDispose]: () => servers.disposeAsync(),
  };
};

/** A replica where the machine's Redis knows the command; where it is older, what answers in the place of one that does. */
const REPLICAS = [
  hasWaitaof ? (['a replica', startReplica] as const) : (['a stand-in', startStandIn] as const),
];

describeWithRedis('a store whose admissions wait for disks', () => {
  it.skipIf(hasWaitaof)('does not open on a server that cannot tell of them', async () => {
    await using server = await RedisServer.start();
    await expect(openRedis(server.url, newPrefix(), waitingFor(0))).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringMatching(/needs the command WAITAOF of Redis 7.2; the server is \d/),
    });
  });

  it.skipIf(!hasWaitaof)('does not open on a server that writes to none', async () => {
    await using server = await RedisServer.start({ aof: 'no' });
    await expect(openRedis(server.url, newPrefix(), waitingFor(0))).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringMatching(/needs an append-only file.*set appendonly yes/),
    });
  });

  it.each([
    ['yes', 'no', /needs a server that syncs .* set appendfsync always/],
    ['no', 'always', /needs an append-only file.*set appendonly yes/],
  ])('does not open with appendonly %s and appendfsync %s', async (appendonly, appendfsync, why) => {
    await using server = await RedisServer.start({ config: { appendonly, appendfsync } });
    const link = new NewerLink({ address: parseAddress(server.url), url: server.url, name: 'test' });
    await expect(
      readDurability(link, { waitReplicas: 0, hasBucket: false, wasReplicated: false }),
    ).rejects.toMatchObject({
      code: 'invalid_request',
      message: expect.stringMatching(why),
    });
    await link.close();
  });

  it.each(REPLICAS)('refuses what the disk of a replica did not confirm in time (%s)', async (_, start) => {
    await using replica = await start();
    await using shop = await makeShop(replica.url, newPrefix(), waitingFor(1));
    expect(shop.queue.durability).toBe('redis:aof=always,waitaof=1+1');
    await shop.admit(1);
    replica.stop();
    await expect(shop.admit(1)).rejects.toMatchObject(UNCONFIRMED);
    replica.goOn();
    await eventually('it is confirmed again', () => shop.admit(1));
  });

  it.each(REPLICAS)('attaches only to a call that the disk of a replica has (%s)', async (_, start) => {
    await using replica = await start();
    const [url, prefix] = [replica.url, newPrefix()];
    await using first = await makeShop(url, prefix, waitingFor(1));
    const server = await openRedis(url, prefix, waitingFor(1));
    const other = server.connect();
    const submission = first.admission(1, { idempotency: { key: 'k', bodyDigest: 'd' } });
    replica.stop();
    await expect(first.queue.admit(submission)).rejects.toMatchObject(UNCONFIRMED);
    // Nothing that this client wrote before waits for a disk.
    await expect(other.queue.admit(submission)).rejects.toMatchObject(UNCONFIRMED);
    replica.goOn();
    const { attached } = await eventually('it is confirmed', () => other.queue.admit(submission));
    expect(attached).toBe(true);
    await server.close();
  });

  it.skipIf(!hasWaitaof)(
    'finds all that it accepted on the replica that took the place of its master',
    async () => {
      await using sentinels = await RedisSentinels.start();
      await using shop = await makeShop(sentinels.url, newPrefix(), waitingFor(1));
      const ids = await Promise.all(Array.from({ length: 20 }, () => shop.admit(3)));
      await sentinels.master.kill();
      await sentinels.promoted();
      for (const id of ids) {
        const call = await eventually('the store is back', () => shop.call(id));
        expect(call).toMatchObject({ status: 'pending', rows: 3 });
      }
    },
  );
});
