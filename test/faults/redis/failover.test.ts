import { expect, it } from 'vitest';
import { tallyText } from '../../support/call-ledger.ts';
import { describeWithRedis, RedisSentinels } from '../../support/redis-servers.ts';
import { SEED } from '../../support/seed.ts';
import { eventually } from '../../support/sluice-process.ts';
import { isLong, redisHome, withRig } from './rig.ts';

const ROUNDS = isLong ? 5 : 1;
/** From the promotion to the first result. */
const RESUMED_MS = 15_000;
/** Replication is asynchronous: what was accepted so shortly before the master died may be lost, as its durability says. */
const LAG_MS = 1000;

describeWithRedis('a failover by sentinels under load', () => {
  it.each(Array.from({ length: ROUNDS }, (_, round) => round))(
    `resumes the flow by itself, gives no id twice, and loses nothing but the last moment (SLUICE_TEST_SEED=${SEED}, round %i)`,
    async (round) => {
      await using sentinels = await RedisSentinels.start();
      await withRig({ home: redisHome(sentinels.url) }, async ({ ledger, random }) => {
        ledger.load(8);
        await ledger.progress(random.int(20, 60));
        const killedAt = performance.now();
        await sentinels.master.kill();
        await sentinels.promoted();
        const promotedAt = performance.now();
        const probe = async (): Promise<boolean> => {
          const { id } = await ledger.submit(`probe-${round}`);
          return (await ledger.result(id)).status === 200;
        };
        const late = new Promise<never>((_, reject) =>
          setTimeout(
            reject,
            RESUMED_MS,
            new Error(`nothing ran ${RESUMED_MS} ms after the promotion`),
          ).unref(),
        );
        expect(await Promise.race([probe(), late])).toBe(true);
        const resumedMs = performance.now() - promotedAt;
        await ledger.progress(20);
        await ledger.unload();
        const lost = new Set<string>();
        for (const { id, acceptedAt } of ledger.accepted.filter(
          (call) => call.acceptedAt <= killedAt + LAG_MS,
        )) {
          const { status } = await eventually(`${id} is known or lost`, () => ledger.result(id));
          if (status === 200) continue;
          expect(status, id).toBe(404);
          expect(acceptedAt, id).toBeGreaterThan(killedAt - LAG_MS);
          lost.add(id);
        }
        const tally = await ledger.balance(lost);
        console.info(
          `failover, seed ${SEED}: resumed ${Math.round(resumedMs)} ms after the promotion, ` +
            `${lost.size} calls of the last moment lost; ${tallyText(tally)}`,
        );
      });
    },
  );
});
