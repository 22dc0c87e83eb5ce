import { expect, it } from 'vitest';
import { tallyText } from '../../support/call-ledger.ts';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { SEED } from '../../support/seed.ts';
import { eventually } from '../../support/sluice-process.ts';
import { Witness } from '../../support/witness.ts';
import { redisHome, withRig } from './rig.ts';

const MAX_MB = 48;
/** Calls of some 600 KB each fill it. */
const BALLAST_ROWS = 100_000;
const BALLAST_CALLS = (MAX_MB * 2 ** 20) / BALLAST_ROWS;

describeWithRedis('a Redis that is out of memory', () => {
  it(`refuses at the door, settles what it had accepted, and recovers by itself (SLUICE_TEST_SEED=${SEED})`, async () => {
    await using redis = await RedisServer.start({
      aof: 'no',
      config: { maxmemory: `${MAX_MB}mb`, 'maxmemory-policy': 'noeviction' },
    });
    const ballast = new Witness({ name: 'ballast' });
    // Slow enough that much of what is accepted still waits when the memory is full.
    const options = { home: redisHome(redis.url), witness: { runMs: 60 } };
    await withRig(options, async ({ ledger, herd }) => {
      const { url } = herd.door()!;
      const post = (path: string, body?: string): Promise<Response> =>
        fetch(`${url}/v1/functions/${path}`, {
          method: 'POST',
          ...(body && { headers: { 'content-type': 'application/json' }, body }),
        });
      await herd.door()!.deploy(ballast.source);
      expect((await post('ballast/pause')).status).toBe(200);
      const early = await Promise.all(Array.from({ length: 30 }, (_, n) => ledger.submit(`early-${n}`)));
      const values = Array.from({ length: BALLAST_ROWS }, (_, n) => 1e5 + n);
      const body = JSON.stringify({ columns: { value: values } });
      let refusal: Response | undefined;
      for (let n = 0; n < BALLAST_CALLS && refusal === undefined; n += 1) {
        const response = await post('ballast/calls', body);
        if (response.status === 202) await response.text();
        else refusal = response;
      }
      const problem = (await refusal?.json()) as { code: string; detail: string; retryable: boolean };
      expect([refusal?.status, problem.code, problem.retryable]).toEqual([507, 'memory_full', true]);
      expect(problem.detail).toMatch(/\d+ % of its maxmemory/);
      expect(Number(refusal?.headers.get('retry-after'))).toBeGreaterThan(0);
      // Now Redis refuses by itself whatever may not exceed its limit, BullMQ's scripts among it.
      const used = await redis.ask(async (client) =>
        Number(/used_memory:(\d+)/.exec(await client.info('memory'))![1]),
      );
      await redis.ask((client) => client.config('SET', 'maxmemory', Math.round(used * 0.9)));
      for (const { id } of early) {
        const { status, text } = await ledger.result(id);
        expect(status, text).toBe(200);
      }
      expect((await post('witnessed/calls', '{"columns":{"value":[1]}}')).status).toBe(507);
      await redis.ask((client) => client.config('SET', 'maxmemory', `${MAX_MB}mb`));
      expect((await post('ballast/purge')).status).toBe(200);
      ledger.load(4);
      await eventually('the door is open again', async () => ledger.accepted.length > early.length);
      await ledger.progress(12);
      await ledger.unload();
      const tally = await ledger.balance();
      console.info(
        `full memory, seed ${SEED}: ${early.length} calls ended at the limit; ${tallyText(tally)}`,
      );
      expect([...ledger.refusals.keys()].filter((status) => status !== 507)).toEqual([]);
    }).finally(() => ballast.remove());
  });
});
