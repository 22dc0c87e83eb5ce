import { expect, it } from 'vitest';
import { tallyText } from '../../support/call-ledger.ts';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { SEED } from '../../support/seed.ts';
import { Witness } from '../../support/witness.ts';
import { ROLES, redisHome, withRig } from './rig.ts';
import { problemCode, QuietFunction, TOLD_LOST, toldOf } from './waiters.ts';

const LIMIT_MS = 90_000;

describeWithRedis('a Redis that is emptied under load', () => {
  it(
    `tells everyone who waits that the data is lost, and serves again with a new generation (SLUICE_TEST_SEED=${SEED})`,
    async () => {
      await using redis = await RedisServer.start();
      const quiet = new Witness({ name: 'quiet' });
      await withRig({ home: redisHome(redis.url) }, async ({ ledger, herd }) => {
        const { url } = herd.door()!;
        const generation = await generationOf(url);
        const paused = await QuietFunction.deploy(url, quiet, (source) => herd.door()!.deploy(source));
        const old = await paused.call();
        const waiters = await paused.wait(old);
        ledger.load(6);
        await ledger.progress(30);
        const exits = herd.alive.map((server) => server.exited());
        await redis.ask((client) => client.flushall());
        expect(await toldOf(waiters)).toEqual(TOLD_LOST);
        expect(await Promise.all(exits)).toEqual(ROLES.map(() => 70));
        await Promise.all(ROLES.map((_, place) => herd.fill(place)));
        const door = herd.door()!;
        expect(await generationOf(door.url)).not.toBe(generation);
        expect(await problemCode(await fetch(`${door.url}/v1/calls/${old}`))).toBe('410 call_gone');
        await door.deploy(ledger.source);
        await ledger.progress(12);
        await ledger.unload();
        const lost = new Set<string>();
        for (const { id } of ledger.accepted) if ((await ledger.result(id)).status === 410) lost.add(id);
        const tally = await ledger.balance(lost);
        expect(lost.size).toBeGreaterThan(0);
        expect(tally.calls).toBeGreaterThanOrEqual(12);
        console.info(
          `emptied, seed ${SEED}: ${lost.size} calls told as lost; since then ${tallyText(tally)}`,
        );
      }).finally(() => quiet.remove());
    },
    LIMIT_MS,
  );
});

const generationOf = async (url: string): Promise<string> =>
  ((await (await fetch(`${url}/v1/server`)).json()) as { generation: string }).generation;
