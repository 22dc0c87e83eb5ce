import { expect, it } from 'vitest';
import { tallyText } from '../../support/call-ledger.ts';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { SEED } from '../../support/seed.ts';
import { isLong, redisHome, withRig } from './rig.ts';

const ROUNDS = isLong ? 5 : 1;
const ROLES = ['worker', 'worker', 'buffer', 'buffer', 'ingress', 'ingress'];
/** What a process may take to leave; one that takes longer ends itself with another exit code. */
const GRACE = '15s';

describeWithRedis('a rolling upgrade under load', () => {
  it(`fails no call, runs no row again, loses no lease; each process leaves in its grace (SLUICE_TEST_SEED=${SEED})`, async () => {
    await using redis = await RedisServer.start();
    const options = { home: redisHome(redis.url), roles: ROLES, args: ['--lease', '3s', '--grace', GRACE] };
    await withRig(options, async ({ ledger, herd, random }) => {
      const logs: string[] = [];
      let exits = 0;
      ledger.load(8);
      for (let round = 0; round < ROUNDS; round += 1)
        for (let place = 0; place < ROLES.length; place += 1) {
          await ledger.progress(random.int(1, 20));
          const old = herd.at(place);
          await herd.fill(place);
          expect(await old.kill('SIGTERM'), `${ROLES[place]}: ${old.log}`).toBe(0);
          exits += 1;
          logs.push(old.log);
        }
      await ledger.progress(10);
      await ledger.unload();
      const tally = await ledger.balance();
      logs.push(...herd.alive.map(({ log }) => log));
      console.info(`upgrade, seed ${SEED}: ${exits} processes replaced; ${tallyText(tally)}`);
      expect([ledger.unanswered, ...ledger.refusals]).toEqual([0]);
      // A worker that leaves hands back what its handlers have not begun, by their own word.
      expect(tally.reruns).toBe(0);
      expect(logs.join('\n')).not.toMatch(/leases were lost|lease lost/);
    });
  });
});
