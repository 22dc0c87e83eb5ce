/** Stores on a Redis server of the test, as the contract's workshop opens them. */
import type { RedisOptions, StoreServer } from '../../../shared/store/ports/server.ts';
import type { StoreFactory } from '../../contract/factory.ts';
import { Workshop } from '../../contract/workshop.ts';
import { newPrefix, openRedis } from '../../support/redis-store.ts';

export { newPrefix };

export const openStore = (url: string, prefix: string, warnings: string[] = []): Promise<StoreServer> =>
  openRedis(url, prefix, { onWarning: (sentence) => warnings.push(sentence) });

/** A workshop with function `f`, whose buffer its client owns. */
export const makeShop = (
  url: string,
  prefix = newPrefix(),
  options: Partial<RedisOptions> = {},
): Promise<Workshop> =>
  Workshop.make({
    name: 'redis',
    capabilities: { durability: '', keepsLeases: true, limitsBytes: false },
    home: async () => ({ open: () => openRedis(url, prefix, options), remove: async () => undefined }),
  } satisfies StoreFactory);
