import { randomBytes } from 'node:crypto';
import { afterAll } from 'vitest';
import { openRedisStore } from '../../shared/store/redis/index.ts';
import { describeWithRedis, RedisServer } from '../support/redis-servers.ts';
import { LIMITS } from './factory.ts';
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
      const prefix = `t-${randomBytes(4).toString('hex')}`;
      return {
        open: (overrides) =>
          openRedisStore({
            ...LIMITS,
            ...overrides,
            url,
            prefix,
            waitReplicas: null,
            onWarning: () => undefined,
          }),
        // It goes with the server.
        remove: async () => undefined,
      };
    },
  },
  describeWithRedis,
);
