import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, it } from 'vitest';
import { tallyText } from '../../support/call-ledger.ts';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { SEED } from '../../support/seed.ts';
import { isLong, redisHome, withRig } from './rig.ts';

const CALLS = isLong ? 1000 : 150;
const REPEATING = pathToFileURL(path.join(import.meta.dirname, 'repeating-dispatch.ts')).href;

describeWithRedis('deliveries that come twice and out of order', () => {
  it(`give each row one result and one run (SLUICE_TEST_SEED=${SEED})`, async () => {
    await using redis = await RedisServer.start({ aof: 'no' });
    const options = {
      home: redisHome(redis.url),
      roles: ['ingress', 'buffer', 'worker', 'worker'],
      // What is kept back comes with a later take, of which a heartbeat makes sure. Long enough that no busy machine loses one: a
      // lost lease is a run again.
      args: ['--lease', '3s'],
      place: (place: number) =>
        place < 2
          ? {}
          : { env: { NODE_OPTIONS: `--import=${REPEATING}`, SLUICE_TEST_SEED: String(SEED + place) } },
    };
    await withRig(options, async ({ ledger }) => {
      ledger.load(8);
      while (ledger.accepted.length < CALLS) await ledger.progress(10);
      await ledger.unload();
      const tally = await ledger.balance();
      console.info(`deliveries, seed ${SEED}: ${tallyText(tally)}`);
      expect(tally.reruns).toBe(0);
    });
  });
});
