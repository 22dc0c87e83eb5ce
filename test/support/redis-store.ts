/** A store on a Redis server of the test. */
import { randomBytes } from 'node:crypto';
import type { RedisOptions, StoreServer } from '../../shared/store/ports/server.ts';
import { openRedisStore } from '../../shared/store/redis/index.ts';
import { LIMITS } from '../contract/factory.ts';

/** What the keys of a store begin with, so that each test has one of its own on a server that they share. */
export const newPrefix = (): string => `t-${randomBytes(4).toString('hex')}`;

export const openRedis = (
  url: string,
  prefix: string,
  options: Partial<RedisOptions> = {},
): Promise<StoreServer> =>
  openRedisStore({ ...LIMITS, url, prefix, waitReplicas: null, onWarning: () => undefined, ...options });
