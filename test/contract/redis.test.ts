import { afterAll } from 'vitest';
import { describeWithRedis, RedisServer } from '../support/redis-servers.ts';
import { newPrefix, openRedis } from '../support/redis-store.ts';
import { storeContract } from './suite.ts';

let server: Promise<RedisServer> | undefined;
afterAll(async () => (await server)?.stop());

storeContract(
  {
    name: 'redis',
    capabilities: { durability: 'redis:aof=always', keepsLeases: true, limitsBytes: false },
    home: async () => {
      server ??= RedisServer.start();
      const { url } = await server;
      const prefix = newPrefix();
      return {
        open: (overrides) => openRedis(url, prefix, overrides),
        // It goes with the server.
        remove: async () => undefined,
      };
    },
  },
  describeWithRedis,
);
