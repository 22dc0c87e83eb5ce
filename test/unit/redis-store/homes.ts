/** Stores on a Redis server of the test, as the contract's workshop opens them. */
import { randomBytes } from 'node:crypto';
import type { StoreServer } from '../../../shared/store/ports/server.ts';
import { openRedisStore } from '../../../shared/store/redis/index.ts';
import { LIMITS, type StoreFactory } from '../../contract/factory.ts';
import { Workshop } from '../../contract/workshop.ts';

export const newPrefix = (): string => `t-${randomBytes(4).toString('hex')}`;

export const openStore = (url: string, prefix: string, warnings: string[] = []): Promise<StoreServer> =>
  openRedisStore({
    ...LIMITS,
    url,
    prefix,
    waitReplicas: null,
    onWarning: (sentence) => warnings.push(sentence),
  });

/** A workshop with function `f`, whose buffer its client owns. */
export const makeShop = (url: string, prefix = newPrefix()): Promise<Workshop> =>
  Workshop.make({
    name: 'redis',
    capabilities: { durability: '', keepsLeases: true, limitsBytes: false },
    home: async () => ({ open: () => openStore(url, prefix), remove: async () => undefined }),
  } satisfies StoreFactory);
