/** The contract once more with every payload and output in a bucket. */
import { afterAll } from 'vitest';
import { RedisServer } from '../support/redis-servers.ts';
import { newPrefix, openRedis } from '../support/redis-store.ts';
import { describeWithS3, S3Server } from '../support/s3-server.ts';
import { storeContract } from './suite.ts';

let servers: Promise<[RedisServer, S3Server]> | undefined;
afterAll(async () => {
  for (const server of (await servers) ?? []) await server.stop();
});

storeContract(
  {
    name: 'redis and S3',
    capabilities: { durability: 'redis:aof=always,s3', keepsLeases: true, limitsBytes: false, uploads: true },
    home: async () => {
      servers ??= Promise.all([RedisServer.start(), S3Server.start()]);
      const [{ url }, s3] = await servers;
      const prefix = newPrefix();
      return {
        open: (overrides) =>
          openRedis(url, prefix, { ...overrides, bucket: s3.options({ thresholdBytes: 1 }) }),
        // It goes with the servers.
        remove: async () => undefined,
      };
    },
  },
  describeWithS3,
);
