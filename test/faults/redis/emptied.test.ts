import { expect, it } from 'vitest';
import { Sluice } from '../../../sdk/index.ts';
import { tallyText } from '../../support/call-ledger.ts';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { SEED } from '../../support/seed.ts';
import { eventually } from '../../support/sluice-process.ts';
import { Witness } from '../../support/witness.ts';
import { ROLES, redisHome, withRig } from './rig.ts';

/** Waits of a hundred seconds: longer than the test may take. */
const WAIT_S = 100;
const LIMIT_MS = 90_000;

type Waiter = { readonly what: string; readonly told: Promise<string> };

const problemCode = async (response: Response): Promise<string> =>
  `${response.status} ${((await response.json()) as { code?: string }).code}`;

describeWithRedis('a Redis that is emptied under load', () => {
  it(
    `tells everyone who waits that the data is lost, and serves again with a new generation (SLUICE_TEST_SEED=${SEED})`,
    async () => {
      await using redis = await RedisServer.start();
      const quiet = new Witness({ name: 'quiet' });
      await withRig({ home: redisHome(redis.url) }, async ({ ledger, herd }) => {
        const { url } = herd.door()!;
        const generation = await generationOf(url);
        const sluice = new Sluice({ url });
        await herd.door()!.deploy(quiet.source);
        await sluice.pause(quiet.name);
        const submit = (headers: Record<string, string> = {}): Promise<Response> =>
          fetch(`${url}/v1/functions/${quiet.name}/calls`, {
            method: 'POST',
            headers: { 'content-type': 'application/json', ...headers },
            body: '{"columns":{"value":[1,2,3]}}',
          });
        const old = ((await (await submit()).json()) as { call_id: string }).call_id;
        const stream = await fetch(`${url}/v1/calls/${old}/events`);
        const waiters: Waiter[] = [
          { what: 'a long poll', told: fetch(`${url}/v1/calls/${old}?wait=${WAIT_S}`).then(problemCode) },
          { what: 'a result', told: fetch(`${url}/v1/calls/${old}/result?wait=${WAIT_S}`).then(problemCode) },
          { what: 'Prefer: wait', told: submit({ prefer: `wait=${WAIT_S}` }).then(problemCode) },
          {
            what: 'server-sent events',
            told: stream.text().then((text) => /"code":"\w+"/.exec(text)?.[0] ?? text),
          },
          { what: 'a handle', told: codeOf(sluice.call(old).get({ timeoutMs: WAIT_S * 1000 })) },
          { what: "a handle's events", told: codeOf(lastOf(sluice.call(old).events())) },
        ];
        ledger.load(6);
        await ledger.progress(30);
        await eventually('all of them wait', async () => (await waitingRows(url, quiet.name)) === 6);
        const exits = herd.alive.map((server) => server.exited());
        await redis.ask((client) => client.flushall());
        const told = await Promise.all(waiters.map(async (waiter) => [waiter.what, await waiter.told]));
        expect(told).toEqual([
          ['a long poll', '500 data_lost'],
          ['a result', '500 data_lost'],
          ['Prefer: wait', '500 data_lost'],
          ['server-sent events', '"code":"data_lost"'],
          ['a handle', 'data_lost'],
          ["a handle's events", 'data_lost'],
        ]);
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

const waitingRows = async (url: string, name: string): Promise<number> => {
  const answer = await (await fetch(`${url}/v1/functions/${name}`)).json();
  return (answer as { queue: { waiting_rows: number } }).queue.waiting_rows;
};

const codeOf = async (asked: Promise<unknown>): Promise<string> => {
  try {
    return `answered ${JSON.stringify(await asked)}`;
  } catch (error) {
    return String((error as { code?: string }).code ?? error);
  }
};

const lastOf = async <T>(events: AsyncIterable<T>): Promise<T | undefined> => {
  let last: T | undefined;
  for await (const event of events) last = event;
  return last;
};
