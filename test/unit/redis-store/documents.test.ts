/** Documents where only Redis has something to say: in a cluster, after a failover, and half written. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { scripts } from '../../../shared/store/redis/scripts.ts';
import { documentsSuite } from '../../contract/documents-suite.ts';
import { registrySuite } from '../../contract/registry-suite.ts';
import { describeWithRedis, RedisCluster, RedisServer } from '../../support/redis-servers.ts';
import { newPrefix, openStore } from './homes.ts';

describeWithRedis('documents and functions in a cluster', () => {
  let cluster: RedisCluster;
  beforeAll(async () => {
    cluster = await RedisCluster.start();
  });
  afterAll(() => cluster?.stop());

  const factory = {
    name: 'redis cluster',
    capabilities: { durability: '', keepsLeases: true, limitsBytes: false },
    home: async () => {
      const prefix = newPrefix();
      return { open: () => openStore(cluster.url, prefix), remove: async () => undefined };
    },
  };
  documentsSuite(factory);
  registrySuite(factory);
});

describeWithRedis('documents on Redis', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server?.stop());

  const opened = async (prefix = newPrefix()) => {
    const home = await openStore(server.url, prefix);
    const { documents } = home.connect();
    return { prefix, documents, home, [Symbol.asyncDispose]: () => home.close() };
  };
  const LARGE = 'x'.repeat(3_000_000);

  it('leave no parts behind of what was replaced, refused or removed', async () => {
    await using store = await opened();
    const { documents, prefix } = store;
    const parts = () => server.ask((redis) => redis.keys(`{${prefix}}:document-part:*`));
    const first = (await documents.put({ kind: 'model', key: 'a', revision: null, value: LARGE }))!;
    expect(await parts()).toHaveLength(3);
    expect(await documents.put({ kind: 'model', key: 'a', revision: null, value: LARGE })).toBeNull();
    expect(await parts()).toHaveLength(3);
    const second = (await documents.put({ kind: 'model', key: 'a', revision: first, value: `${LARGE}y` }))!;
    expect(await parts()).toHaveLength(3);
    for (const key of await parts()) expect(await server.ask((redis) => redis.pttl(key))).toBe(-1);
    expect(await documents.remove({ kind: 'model', key: 'a', revision: second })).toBe(true);
    expect(await parts()).toEqual([]);
  });

  it('are not written from parts that are gone, and such parts go by themselves', async () => {
    await using store = await opened();
    const { prefix } = store;
    const keys = ['generation', 'documents', 'document:model/a', 'document-revisions'];
    const { text: script } = scripts().get('document-put')!;
    const answer = await server.ask(async (redis) => {
      const generation = (await redis.get(`{${prefix}}:generation`))!;
      await redis.set(`{${prefix}}:document-part:half:0`, 'x', 'PX', 60_000);
      const names = keys.map((key) => `{${prefix}}:${key}`);
      return redis.eval(script, 4, ...names, generation, '', 'model/a', 2, '', 'half', 2);
    });
    expect(answer).toBe(-1);
    expect(await store.documents.get('model', 'a')).toBeUndefined();
    expect(await store.documents.list({ kind: 'model', limit: 1 })).toEqual([]);
  });

  it('get revisions beyond those that another life of the server may have given', async () => {
    await using store = await opened();
    const { prefix, documents } = store;
    const first = (await documents.put({ kind: 'model', key: 'a', revision: null, value: 0 }))!;
    // As a replica has it that was promoted: another run of the server gave the last one it knows of.
    await server.ask((redis) => redis.hset(`{${prefix}}:document-revisions`, 'run', 'another'));
    const second = (await documents.put({ kind: 'model', key: 'a', revision: first, value: 1 }))!;
    expect(second).toBeGreaterThan(first + 100_000);
    expect(await documents.put({ kind: 'model', key: 'a', revision: second, value: 2 })).toBe(second + 1);
  });

  it('say that the data is lost when it is', async () => {
    await using store = await opened();
    const { prefix, documents } = store;
    await documents.put({ kind: 'model', key: 'a', revision: null, value: 0 });
    await server.ask((redis) => redis.set(`{${prefix}}:generation`, 'another'));
    const lost = { code: 'data_lost' };
    await expect(documents.get('model', 'a')).rejects.toMatchObject(lost);
  });
});
