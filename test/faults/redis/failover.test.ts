import { expect, it } from 'vitest';
import { tallyText } from '../../support/call-ledger.ts';
import { describeWithRedis, RedisSentinels } from '../../support/redis-servers.ts';
import { SEED } from '../../support/seed.ts';
import { eventually } from '../../support/sluice-process.ts';
import { Witness } from '../../support/witness.ts';
import { isLong, redisHome, withRig } from './rig.ts';
import { problemCode, QuietFunction, TOLD_LOST, toldOf } from './waiters.ts';

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
          const { status, text } = await eventually(`${id} is known or lost`, () => ledger.result(id));
          if (status === 200) continue;
          expect(`${status} ${text}`, id).toMatch(/^500 .*"code":"data_lost"/);
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

  it('tells which calls were lost, to who waits for them and who asks later', async () => {
    await using sentinels = await RedisSentinels.start();
    const quiet = new Witness({ name: 'quiet' });
    await withRig({ home: redisHome(sentinels.url) }, async ({ ledger, herd }) => {
      const { url } = herd.door()!;
      const paused = await QuietFunction.deploy(url, quiet, (source) => herd.door()!.deploy(source));
      const kept = await paused.call();
      await sentinels.master.ask((redis) => redis.call('WAIT', '1', '5000'));
      await sentinels.cutOff();
      const lost = await paused.call();
      const waiters = await paused.wait(lost);
      const ask = async (path: string, method = 'GET'): Promise<string> =>
        problemCode(await fetch(`${url}/v1/calls/${path}`, { method }));
      expect(await ask(lost)).toBe('200 undefined');
      await sentinels.master.kill();
      sentinels.replica.signal('SIGCONT');
      await sentinels.promoted();
      expect(await toldOf(waiters)).toEqual(TOLD_LOST);
      const again = await eventually('a call is accepted', () => paused.call());
      await ledger.submit('after');
      const asked = [ask(lost), ask(`${lost}/result`), ask(`${lost}/events`), ask(`${lost}?wait=1`)];
      asked.push(ask(lost, 'DELETE'), ask(`${lost}/acknowledge`, 'POST'));
      expect(await Promise.all(asked)).toEqual(Array(6).fill('500 data_lost'));
      expect(await ask(kept)).toBe('200 undefined');
      const listed = await (await fetch(`${url}/v1/calls?function=${quiet.name}`)).json();
      expect((listed as { calls: { call_id: string }[] }).calls.map(({ call_id }) => call_id)).toEqual([
        again,
        kept,
      ]);
      await ledger.balance();
    }).finally(() => quiet.remove());
  });
});
