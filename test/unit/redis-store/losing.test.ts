import { readFileSync } from 'node:fs';
import type { Redis } from 'ioredis';
import { afterEach, expect, it } from 'vitest';
import type { Store } from '../../../shared/store/ports/store.ts';
import { parseAddress } from '../../../shared/store/redis/address.ts';
import { MemoryGuard } from '../../../shared/store/redis/health.ts';
import { Link } from '../../../shared/store/redis/link.ts';
import { openRedisSource } from '../../../shared/store/redis/transfer-source.ts';
import { openRedisTarget } from '../../../shared/store/redis/transfer-target.ts';
import { specOf, type Workshop } from '../../contract/workshop.ts';
import {
  describeWithRedis,
  RedisCluster,
  type RedisOptions,
  RedisSentinels,
  RedisServer,
} from '../../support/redis-servers.ts';
import { eventually } from '../../support/sluice-process.ts';
import { makeShop, newPrefix, openStore } from './homes.ts';

const open: { stop(): Promise<void> }[] = [];
afterEach(async () => {
  for (const server of open.splice(0)) await server.stop();
});
const start = async (options: RedisOptions = {}): Promise<RedisServer> => {
  const server = await RedisServer.start(options);
  open.push(server);
  return server;
};

const MACHINE_BYTES = 64 * 2 ** 20;

/** A link to a server that says how little memory its machine has. */
class SmallMachine extends Link {
  override async everywhere(name: string, ...args: string[]): Promise<string[]> {
    const told = await super.everywhere(name, ...args);
    return told.map((text) =>
      text.replace(/^total_system_memory:.*$/m, `total_system_memory:${MACHINE_BYTES}\r`),
    );
  }
}

const addressOf = ({ url }: RedisServer, credentials: string): string =>
  url.replace('://', `://${credentials}@`);

const lostBy = (store: Store): Promise<string> =>
  new Promise((resolve) => {
    store.queue.watch({ kind: 'lost' }, ({ detail }) => resolve(detail));
  });

/** Jobs that BullMQ gave to a worker, by the event streams of a node's queues. */
const activeJobs = async (redis: Redis): Promise<string[]> => {
  const jobs: string[] = [];
  for (const key of await redis.keys('*:bull:*:events'))
    for (const [, fields] of await redis.xrange(key, '-', '+'))
      if (fields.includes('active') && !fields.includes('completed')) jobs.push(fields.join());
  return jobs;
};

/** The whole life of one row, until its store does it without a refusal. */
const insistOnRow = (shop: Workshop): Promise<number> =>
  eventually('a row runs', async () => {
    await shop.own('f');
    const id = await shop.admit(1);
    await shop.settleOk(await shop.run([id, 0, 1]));
    return id;
  });

describeWithRedis('a store whose server', () => {
  it('was emptied tells who waits, refuses everything, and begins anew when it is opened again', async () => {
    const server = await start();
    const prefix = newPrefix();
    await using shop = await makeShop(server.url, prefix);
    const lost = lostBy(shop.store);
    const { generation } = shop.queue;
    const id = await shop.admit(1);
    await server.ask((redis) => redis.flushall());
    expect(await lost).toMatch(/data was lost or replaced.*emptied/);
    const refusal = { code: 'data_lost', retryable: false };
    await expect(shop.queue.call(id)).rejects.toMatchObject(refusal);
    await expect(shop.admit(1)).rejects.toMatchObject(refusal);
    await expect(shop.store.retention.usage()).rejects.toMatchObject(refusal);
    const again = await openStore(server.url, prefix);
    const store = again.connect();
    expect(store.queue.generation).not.toBe(generation);
    expect(await store.registry.functions()).toEqual([]);
    expect((await store.registry.deploy({ now: 1, spec: specOf('f') })).created).toBe(true);
    await again.close();
  });

  it('was emptied is noticed at the first verb', async () => {
    const server = await start();
    await using shop = await makeShop(server.url);
    const lost = lostBy(shop.store);
    await server.ask((redis) => redis.flushall());
    await expect(shop.admit(1)).rejects.toMatchObject({ code: 'data_lost' });
    await lost;
  });

  it('was killed goes on with all that it had accepted', async () => {
    const server = await start();
    await using shop = await makeShop(server.url);
    const id = await shop.admit(3);
    await server.kill();
    // The ends of its connections lie in our sockets by now; some turns of the loop, and the client knows.
    for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    // Asked while there is no connection: it waits for the next one.
    const asked = shop.call(id);
    await server.restart();
    expect(await asked).toMatchObject({ status: 'pending' });
    expect(await shop.load()).toMatchObject({ waitingRows: 3 });
    await insistOnRow(shop);
  });

  it('is nearly full refuses at the door, settles what runs, and recovers by itself', async () => {
    const server = await start({ config: { maxmemory: '40mb' } });
    await using shop = await makeShop(server.url);
    const held = await shop.run([await shop.admit(1), 0, 1]);
    await server.ask((redis) => redis.setrange('ballast', 34 * 2 ** 20, 'x'));
    await eventually('it is full', async () => (await shop.store.retention.usage()).full);
    await expect(shop.admit(1)).rejects.toMatchObject({ code: 'memory_full', status: 507, retryable: true });
    await server.ask((redis) => redis.config('SET', 'maxmemory', '30mb'));
    expect(await shop.settleOk(held)).toMatchObject({ accepted: true });
    // Every request of a caller reads keys.
    expect(await shop.store.keys.list()).toEqual([]);
    expect(await shop.store.keys.find('nobody')).toBeUndefined();
    await server.ask((redis) => redis.del('ballast'));
    await eventually('it has room', () => shop.admit(1));
  });

  it('is filled by one client between two looks at it refuses before it has to', async () => {
    const server = await start({ aof: 'no', config: { maxmemory: '40mb' } });
    await using shop = await makeShop(server.url);
    await shop.store.retention.usage();
    const text = 'x'.repeat(2 ** 18);
    const admit = () => shop.admit(1, { bytes: text.length, payload: { kind: 'json', text } });
    const admitted = await Promise.allSettled(Array.from({ length: 240 }, admit));
    const refused = admitted.filter((one) => one.status === 'rejected');
    expect(refused.length).toBeGreaterThan(80);
    expect(refused.length).toBeLessThan(180);
    for (const { reason } of refused)
      expect(reason).toMatchObject({
        code: 'memory_full',
        message: expect.stringMatching(/would hold \d+ %/),
      });
  });

  it('has no maxmemory is held to the memory of its machine, and says so', async () => {
    const server = await start({ config: { maxmemory: 0 } });
    const warnings: string[] = [];
    await (await openStore(server.url, newPrefix(), warnings)).close();
    expect(warnings).toEqual([expect.stringMatching(/no maxmemory.* 85 % of its machine.*set maxmemory/)]);
    const link = new SmallMachine({ address: parseAddress(server.url), url: server.url, name: 'test' });
    const guard = new MemoryGuard(link);
    expect(await guard.measure()).toMatchObject({ full: false, limitBytes: MACHINE_BYTES });
    guard.checkRoom(100);
    await server.ask((redis) => redis.setrange('ballast', MACHINE_BYTES, 'x'));
    expect(await guard.measure()).toMatchObject({ full: true });
    expect(() => guard.checkRoom(100)).toThrow(/would hold \d+ % of its machine's memory/);
    await server.ask((redis) => redis.del('ballast'));
    await eventually('it has room', async () => !(await guard.measure()).full);
    guard.checkRoom(100);
    await link.close();
  });

  it('may lose accepted calls says so', async () => {
    const describeOf = async (options: RedisOptions) => {
      const server = await start(options);
      const warnings: string[] = [];
      const store = await openStore(server.url, newPrefix(), warnings);
      const { durability } = store.connect().queue;
      await store.close();
      return { durability, warnings };
    };
    expect(await describeOf({})).toEqual({ durability: 'redis:aof=always', warnings: [] });
    expect(await describeOf({ aof: 'everysec' })).toEqual({
      durability: 'redis:aof=everysec',
      warnings: [expect.stringMatching(/appendfsync everysec.*set appendfsync always/)],
    });
    expect(await describeOf({ config: { 'no-appendfsync-on-rewrite': 'yes' } })).toEqual({
      durability: 'redis:aof=always,rewrite=nosync',
      warnings: [expect.stringMatching(/while it rewrites it.*set no-appendfsync-on-rewrite no/)],
    });
    expect(await describeOf({ aof: 'no', config: { 'maxmemory-policy': 'allkeys-lru' } })).toEqual({
      durability: 'redis:aof=off,evicts=allkeys-lru',
      warnings: [expect.stringMatching(/evicts keys/), expect.stringMatching(/append-only file/)],
    });
  });

  it('is set to lose accepted calls while it is served says so from then on', async () => {
    const server = await start();
    const warnings: string[] = [];
    await using shop = await makeShop(server.url, newPrefix(), {
      onWarning: (sentence) => warnings.push(sentence),
    });
    await server.ask((redis) => redis.config('SET', 'maxmemory-policy', 'allkeys-lru'));
    const told = 'redis:aof=always,evicts=allkeys-lru';
    await eventually('it is noticed', async () => shop.queue.durability === told);
    expect(warnings).toEqual([expect.stringMatching(/evicts keys/)]);
  });

  it('lets its user do what the documentation asks for, and no more, serves', async () => {
    const server = await start();
    const [, user] = /^ACL SETUSER (.+)$/m.exec(readFileSync('docs/OPERATIONS.md', 'utf8')) ?? [];
    await server.ask((redis) => redis.call('ACL', 'SETUSER', ...user!.split(' ')));
    const warnings: string[] = [];
    await using shop = await makeShop(addressOf(server, 'sluice:PASSWORD'), 'sluice', {
      onWarning: (sentence) => warnings.push(sentence),
    });
    const [ready, ended] = [shop.collect('ready'), shop.collect('ended')];
    const functions = shop.collect('functions');
    await shop.settled();
    await insistOnRow(shop);
    const cancelled = await shop.admit(1);
    await shop.queue.cancel({ now: shop.now, callId: cancelled });
    await shop.store.registry.remove('f');
    await eventually('all of it is told', async () => ready.length * ended.length * functions.length > 0);
    expect(warnings).toEqual([]);
    expect(await server.ask((redis) => redis.call('ACL', 'LOG'))).toEqual([]);
  });

  it('keeps its user from subscriptions says so, and one from keys, messages or scripts is refused', async () => {
    const server = await start();
    const [channels, keys] = ['&{p*', '~{other*'];
    await server.ask(async (redis) => {
      await redis.call('ACL', 'SETUSER', 'deaf', 'on', '>s', '~*', '+@all', 'resetchannels', channels);
      await redis.call('ACL', 'SETUSER', 'blind', 'on', '>s', keys, '&*', '+@all');
      await redis.call('ACL', 'SETUSER', 'mute', 'on', '>s', '~*', '+@all');
      await redis.call('ACL', 'SETUSER', 'scriptless', 'on', '>s', '~*', '&*', '+@all', '-evalsha', '-eval');
    });
    const warnings: string[] = [];
    await (await openStore(addressOf(server, 'deaf:s'), 'p', warnings)).close();
    expect(warnings).toEqual([expect.stringMatching(/refuses.*\{p:\*\}:to-ready.*NOPERM.*OPERATIONS/)]);
    for (const [user, why] of [
      ['blind', /refuses.*NOPERM/],
      // As `ACL SETUSER` makes it by itself.
      ['mute', /refuses.*channel/],
      ['scriptless', /refuses.*evalsha/],
    ] as const)
      await expect(openStore(addressOf(server, `${user}:s`), 'p')).rejects.toMatchObject({
        code: 'store_unavailable',
        message: expect.stringMatching(why),
        extra: { fix: expect.stringMatching(/OPERATIONS/) },
      });
  });

  it('lacks the database that its address names refuses to open', async () => {
    const server = await start({ config: { databases: 2 } });
    await (await openStore(`${server.url}/1`, 'p')).close();
    const refusal = { code: 'invalid_request', message: expect.stringMatching(/\/2" names the database 2/) };
    await expect(openStore(`${server.url}/2`, 'p')).rejects.toMatchObject(refusal);
    const source = openRedisSource(`${server.url}/2`, 'p');
    await expect(source.begin({ now: 1, to: 'embedded:/x' })).rejects.toMatchObject(refusal);
    await source.close();
    expect(await server.ask((redis) => redis.dbsize())).toBe(0);
  });

  it('does not answer, or is addressed wrongly, refuses to open', async () => {
    const server = await start();
    await server.kill();
    await expect(openStore(server.url, 'p')).rejects.toMatchObject({ code: 'store_unavailable' });
    await expect(openStore(server.url, 'a{b')).rejects.toMatchObject({ code: 'invalid_request' });
    // A store that were filled so could not be served.
    const tooLong = expect.objectContaining({ code: 'invalid_request', extra: { field: 'redisPrefix' } });
    expect(() => openRedisSource(server.url, 'm'.repeat(33))).toThrow(tooLong);
    expect(() => openRedisTarget(server.url, 'm'.repeat(33))).toThrow(tooLong);
    await expect(openStore('redis://a,b', 'p')).rejects.toMatchObject({ code: 'invalid_request' });
  });
});

describeWithRedis('a store on a cluster', () => {
  it('runs functions in every slot, and notices a node that came back empty', async () => {
    const cluster = await RedisCluster.start();
    open.push(cluster);
    const prefix = newPrefix();
    await using shop = await makeShop(cluster.url, prefix);
    const names = Array.from({ length: 9 }, (_, index) => `g${index}`);
    for (const name of names) {
      shop.versionId = await shop.deploy(specOf(name));
      await shop.own(name);
      const id = await shop.admit(2, { functionName: name });
      const end = shop.collect('call', id);
      await shop.settleOk(await shop.run([id, 0, 2]));
      await eventually(
        `the end of a call of ${name} is told`,
        async () => end.at(-1)?.status === 'completed',
      );
    }
    expect((await shop.store.registry.functions()).map(({ name }) => name)).toEqual(['f', ...names]);
    const page = await shop.queue.list({
      functionName: null,
      status: 'completed',
      apiKeyId: null,
      before: null,
      limit: 50,
    });
    expect(page.calls).toHaveLength(9);
    // Each batch went through its queue in the slot of its function.
    const taken = await Promise.all(cluster.nodes.map((node) => node.ask(activeJobs)));
    expect(taken.flat()).toHaveLength(9);
    const lost = lostBy(shop.store);
    await cluster.nodes[0]!.ask((redis) => redis.flushall());
    const { coordination } = shop.store;
    const member = { now: shop.now, memberId: 'shop', leaseMs: 1 };
    await Promise.allSettled(names.map((functionName) => coordination.own({ ...member, functionName })));
    expect(await lost).toMatch(/emptied/);
    const sentences: string[] = [];
    const again = await openStore(cluster.url, prefix, sentences);
    const store = again.connect();
    expect(sentences[0]).toMatch(/replicates asynchronously/);
    expect(store.queue.durability).toBe(ASYNC);
    const kept = await store.registry.functions();
    for (const name of names) await store.registry.deploy({ now: 1, spec: specOf(name) });
    expect(kept.length).toBeLessThan(10);
    expect((await store.registry.functions()).length).toBeGreaterThanOrEqual(9);
    await again.close();
  });
});

const ASYNC = 'redis:aof=always,replicas=async';
const asyncWarning = expect.stringMatching(/replicates asynchronously.*set --redis-waitaof/);

/** Starts a replica of the server, and ends when it is in step. */
const startReplica = async ({ port }: RedisServer): Promise<RedisServer> => {
  const replica = await start({ config: { replicaof: `127.0.0.1 ${port}` } });
  await eventually('the replica is in step', () =>
    replica.ask(async (redis) => (await redis.info('replication')).includes('master_link_status:up')),
  );
  return replica;
};

const withoutReplica = (server: RedisServer): Promise<true> =>
  eventually('the replica is away', () =>
    server.ask(async (redis) => (await redis.info('replication')).includes('connected_slaves:0')),
  );

const openWithWarnings = async (url: string): Promise<{ durability: string; warnings: string[] }> => {
  const warnings: string[] = [];
  const store = await openStore(url, newPrefix(), warnings);
  const { durability } = store.connect().queue;
  await store.close();
  return { durability, warnings };
};

describeWithRedis('a store whose replica is away for a moment', () => {
  it('says all the time that a failover can lose calls', async () => {
    const server = await start({ config: { 'repl-diskless-sync-delay': 0 } });
    const warnings: string[] = [];
    await using shop = await makeShop(server.url, newPrefix(), {
      onWarning: (sentence) => warnings.push(sentence),
    });
    expect(shop.queue.durability).toBe('redis:aof=always');
    const replica = await startReplica(server);
    await eventually('it is noticed', async () => shop.queue.durability === ASYNC);
    await replica.kill();
    await withoutReplica(server);
    // The server itself knows of it for a while; a process does for ever, whatever the server forgets.
    expect(await openWithWarnings(server.url)).toEqual({ durability: ASYNC, warnings: [asyncWarning] });
    await server.kill();
    await server.restart();
    await server.ask((redis) => redis.config('SET', 'maxmemory-policy', 'allkeys-lru'));
    await eventually('its settings are read again', async () => /evicts/.test(shop.queue.durability));
    expect(shop.queue.durability).toBe(`${ASYNC},evicts=allkeys-lru`);
    expect(warnings).toEqual([asyncWarning, expect.stringMatching(/evicts keys/)]);
  });

  it('says so of a server that was a replica itself', async () => {
    const server = await start({ config: { 'repl-diskless-sync-delay': 0 } });
    const replica = await startReplica(server);
    await server.kill();
    await replica.ask((redis) => redis.replicaof('NO', 'ONE'));
    expect(await openWithWarnings(replica.url)).toEqual({ durability: ASYNC, warnings: [asyncWarning] });
  });
});

describeWithRedis('a store behind sentinels', () => {
  it('says that a failover can lose calls where no replica is there at the start', async () => {
    const sentinels = await RedisSentinels.start();
    open.push(sentinels);
    await sentinels.replica.kill();
    await sentinels.master.kill();
    // All that it knew of a replica went with its memory.
    await sentinels.master.restart();
    expect(await openWithWarnings(sentinels.url)).toEqual({ durability: ASYNC, warnings: [asyncWarning] });
  });

  it('says which calls its successor does not have, also to who waits for them', async () => {
    const sentinels = await RedisSentinels.start();
    open.push(sentinels);
    await using shop = await makeShop(sentinels.url);
    const kept = await shop.admit(1);
    await sentinels.master.ask((redis) => redis.call('WAIT', '1', '5000'));
    await sentinels.cutOff();
    const lost = await shop.admit(1);
    expect(shop.queue.durability).toBe(ASYNC);
    const told = new Promise((resolve) => {
      shop.queue.watch({ kind: 'call', callId: lost }, () => undefined, resolve);
    });
    await sentinels.master.kill();
    sentinels.replica.signal('SIGCONT');
    await sentinels.promoted();
    const detail = expect.stringMatching(/lost in a failover/);
    expect(await told).toEqual({ code: 'data_lost', detail });
    await insistOnRow(shop);
    await expect(shop.call(lost)).rejects.toMatchObject({ code: 'data_lost', message: detail });
    expect(await shop.call(kept)).toMatchObject({ status: 'pending' });
  });

  it('goes on with the successor of its master', async () => {
    const sentinels = await RedisSentinels.start();
    open.push(sentinels);
    await using shop = await makeShop(sentinels.url);
    expect(shop.queue.durability).toBe(ASYNC);
    const id = await shop.admit(1);
    await sentinels.master.ask((redis) => redis.call('WAIT', '1', '5000'));
    await eventually('the call is on the replica', async () =>
      sentinels.replica.ask(async (redis) => (await redis.dbsize()) > 0),
    );
    await sentinels.master.kill();
    await sentinels.promoted();
    await insistOnRow(shop);
    expect(await shop.call(id)).toMatchObject({ status: 'pending' });
  });
});
