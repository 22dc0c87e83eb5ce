import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openEmbeddedStore } from '../../../../shared/store/embedded/index.ts';
import { openEmbeddedSource } from '../../../../shared/store/embedded/transfer-source.ts';
import { openEmbeddedTarget } from '../../../../shared/store/embedded/transfer-target.ts';
import { openRedisSource } from '../../../../shared/store/redis/transfer-source.ts';
import { openRedisTarget } from '../../../../shared/store/redis/transfer-target.ts';
import { LIMITS } from '../../../contract/factory.ts';
import { START } from '../../../contract/workshop.ts';
import { RedisServer } from '../../../support/redis-servers.ts';
import { newPrefix, openRedis } from '../../../support/redis-store.ts';
import { describeWithS3, S3Server } from '../../../support/s3-server.ts';
import { type Side, transferSuite } from './transfer-suite.ts';

describeWithS3('with all outputs, and all payloads but the smallest, in a bucket', () => {
  let server: RedisServer;
  let s3: S3Server;
  beforeAll(async () => {
    [server, s3] = await Promise.all([RedisServer.start({ aof: 'no' }), S3Server.start()]);
  });
  afterAll(async () => {
    await server.stop();
    await s3.stop();
  });

  const redis = async (): Promise<Side> => {
    const { url } = server;
    const prefix = newPrefix();
    // A payload of three short rows is smaller: most of the thousand calls that are moved in chunks would only be uploads.
    const bucket = s3.options({ thresholdBytes: 60 });
    return {
      open: (overrides) => openRedis(url, prefix, { ...overrides, bucket }),
      remove: async () => undefined,
      source: async () => openRedisSource(url, prefix, bucket),
      target: async () => openRedisTarget(url, prefix, bucket),
    };
  };
  const embedded = async (): Promise<Side> => {
    const directory = await mkdtemp(path.join(tmpdir(), 'sluice-transfer-'));
    return {
      open: (overrides) => openEmbeddedStore({ ...LIMITS, ...overrides, directory, durability: 'memory' }),
      remove: () => rm(directory, { recursive: true, force: true }),
      source: async () => openEmbeddedSource(directory),
      target: async () => openEmbeddedTarget(directory),
    };
  };

  transferSuite({ name: 'from a data directory to Redis', from: embedded, to: redis }, 1);
  transferSuite({ name: 'from Redis to a data directory', from: redis, to: embedded }, 1);

  it('a store is not read out without its bucket', async () => {
    const prefix = newPrefix();
    await (await openRedis(server.url, prefix, { bucket: s3.options() })).close();
    const source = openRedisSource(server.url, prefix);
    await expect(source.begin({ now: START, to: 'embedded:/x' })).rejects.toThrow(/give --s3-bucket sluice-/);
    await source.close();
  });
});
