/** The stores in this process that one definition of a suite runs on, each empty when it is opened. */
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, describe } from 'vitest';
import { openEmbeddedStore } from '../../shared/store/embedded/index.ts';
import type { StoreServer } from '../../shared/store/ports/server.ts';
import { describeWithRedis, RedisServer } from './redis-servers.ts';
import { newPrefix, openRedis } from './redis-store.ts';

const LIMITS = {
  queueRowsMax: 1e9,
  queueBytesMax: 1e12,
  retentionMs: 86_400_000,
  acknowledgedRetentionMs: 60_000,
};

/** The opener closes what it opened; what is left of it goes after each test. */
export const onEveryOpenedStore = (suite: (open: () => Promise<StoreServer>) => void): void => {
  describe('the embedded store', () => {
    const directories: string[] = [];
    afterEach(() => {
      for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
    });
    suite(() => {
      const directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-opened-'));
      directories.push(directory);
      return openEmbeddedStore({
        ...LIMITS,
        directory,
        durability: 'memory',
        limitBytes: 2 ** 30,
        reserveBytes: 0,
      });
    });
  });
  describeWithRedis('the redis store', () => {
    let server: Promise<RedisServer> | undefined;
    afterAll(async () => (await server)?.stop());
    suite(async () => {
      // What the suite checks is not the disk's.
      server ??= RedisServer.start({ aof: 'no' });
      const { url } = await server;
      return openRedis(url, newPrefix(), LIMITS);
    });
  });
};
