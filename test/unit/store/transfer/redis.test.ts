import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openEmbeddedStore } from '../../../../shared/store/embedded/index.ts';
import { openEmbeddedSource } from '../../../../shared/store/embedded/transfer-source.ts';
import { openEmbeddedTarget } from '../../../../shared/store/embedded/transfer-target.ts';
import { functionOfId, Layout, serialOfId } from '../../../../shared/store/redis/layout.ts';
import { openRedisSource } from '../../../../shared/store/redis/transfer-source.ts';
import { openRedisTarget } from '../../../../shared/store/redis/transfer-target.ts';
import { LIMITS } from '../../../contract/factory.ts';
import { START, specOf } from '../../../contract/workshop.ts';
import { describeWithRedis, RedisServer } from '../../../support/redis-servers.ts';
import { newPrefix, openRedis } from '../../../support/redis-store.ts';
import { eventually } from '../../../support/sluice-process.ts';
import { makeShop } from '../../redis-store/homes.ts';
import { type Side, transferSuite } from './transfer-suite.ts';

describeWithRedis('with a Redis server', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server?.stop());

  const redis = async (): Promise<Side> => {
    const { url } = server;
    const prefix = newPrefix();
    return {
      open: (overrides) => openRedis(url, prefix, overrides),
      remove: async () => undefined,
      source: async () => openRedisSource(url, prefix),
      target: async () => openRedisTarget(url, prefix),
    };
  };
  const embedded = async (): Promise<Side> => {
    const directory = await mkdtemp(path.join(tmpdir(), 'sluice-transfer-'));
    return {
      open: (overrides) => openEmbeddedStore({ ...LIMITS, ...overrides, directory, durability: 'fsync' }),
      remove: () => rm(directory, { recursive: true, force: true }),
      source: async () => openEmbeddedSource(directory),
      target: async () => openEmbeddedTarget(directory),
    };
  };

  transferSuite({ name: 'from a data directory to Redis', from: embedded, to: redis }, 6);
  transferSuite({ name: 'from Redis to a data directory', from: redis, to: embedded }, 8);

  it('does not take more versions of a function than it can number', async () => {
    const [from, to] = [await embedded(), await redis()];
    const opened = await from.open();
    const store = opened.connect();
    await store.registry.deploy({ now: START, spec: specOf('f') });
    await store.close();
    await opened.close();
    const [source, target] = [await from.source(), await to.target()];
    const head = (await source.begin({ now: START, to: 'redis://x' }))!;
    const [one] = head.functions;
    const versions = Array.from({ length: 4096 }, (_, at) => ({ ...one!.versions[0]!, id: at + 1 }));
    await expect(target.arrive({ ...head, functions: [{ ...one!, versions }] })).rejects.toThrow(
      /"f" .* has 4096 versions/,
    );
    await source.close();
    await target.close();
    await from.remove();
  });

  describe('a store in Redis that is to be moved', () => {
    it('gives no invented error in place of one that is not there', async () => {
      const prefix = newPrefix();
      await using shop = await makeShop(server.url, prefix);
      const id = await shop.admit(1);
      const batch = await shop.run([id, 0, 1]);
      await shop.fail(batch);
      const fn = functionOfId(id);
      const record = new Layout(prefix).key(fn, 'output', serialOfId(batch.batchId));
      expect(await server.ask((redis) => redis.unlink(record))).toBe(1);
      expect(await shop.queue.result({ callId: id, from: 0, bytesMax: 1000 })).toBe('gone');
      await shop.close();
      const source = openRedisSource(server.url, prefix);
      await eventually('nobody serves it', () => source.begin({ now: shop.now, to: 'embedded:/x' }));
      await expect(source.calls(null)[Symbol.asyncIterator]().next()).rejects.toThrow(
        /nothing at the errors of batch/,
      );
      await source.close();
    });

    it('must not be served meanwhile', async () => {
      const side = await redis();
      const opened = await side.open();
      const store = opened.connect();
      await store.coordination.join({ now: START, memberId: 'm', until: START + 10_000 });
      const source = await side.source();
      await expect(source.begin({ now: START, to: 'embedded:/x' })).rejects.toThrow(/being served/);
      await store.coordination.leave('m');
      // As every process does that serves it, without being a member.
      const unwatch = store.queue.watch({ kind: 'functions' }, () => undefined);
      await store.counters();
      await expect(source.begin({ now: START, to: 'embedded:/x' })).rejects.toThrow(
        /by servers on 1 connections/,
      );
      unwatch();
      const lost = new Promise((resolve) => {
        store.queue.watch({ kind: 'lost' }, resolve);
      });
      await eventually('nobody serves it', () => source.begin({ now: START, to: 'embedded:/x' }));
      // Who has it open all the same is told where its calls are: none of them is lost, and none is to be submitted again.
      const message = expect.stringMatching(/moves to embedded:\/x, and calls keep their ids/);
      const refusal = { code: 'store_unavailable', message };
      await expect(store.keys.list()).rejects.toMatchObject(refusal);
      await expect(store.registry.deploy({ now: START, spec: specOf('f') })).rejects.toMatchObject(refusal);
      expect(await lost).toEqual({ code: 'store_unavailable', detail: message });
      await source.close();
      await store.close();
      await opened.close();
    });
  });
});
