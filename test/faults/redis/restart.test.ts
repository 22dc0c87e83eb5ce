import { expect, it } from 'vitest';
import { tallyText } from '../../support/call-ledger.ts';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { SEED } from '../../support/seed.ts';
import { isLong, redisHome, withRig } from './rig.ts';

const KILLS = isLong ? 30 : 3;

describeWithRedis('a Redis that is killed and started again, with AOF always', () => {
  it(`loses nothing, and the flow goes on by itself (SLUICE_TEST_SEED=${SEED})`, async () => {
    await using redis = await RedisServer.start({ aof: 'always' });
    await withRig({ home: redisHome(redis.url) }, async ({ ledger, random }) => {
      ledger.load(6);
      for (let kill = 0; kill < KILLS; kill += 1) {
        await ledger.progress(random.int(1, 60));
        await redis.kill();
        await redis.restart();
        await ledger.progress(6);
      }
      await ledger.unload();
      const tally = await ledger.balance();
      console.info(`restart, seed ${SEED}: ${KILLS} kills of Redis; ${tallyText(tally)}`);
      expect(tally.calls).toBeGreaterThan(KILLS);
    });
  });
});
