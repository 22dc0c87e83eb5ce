import { expect, it } from 'vitest';
import { tallyText } from '../../support/call-ledger.ts';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { SEED } from '../../support/seed.ts';
import { eventually, type SluiceServer } from '../../support/sluice-process.ts';
import { TcpProxy } from '../../support/tcp-proxy.ts';
import { isLong, redisHome, withRig } from './rig.ts';

const LEASE_MS = 2000;
const ROUNDS = isLong ? 6 : 1;
const ROLES = ['ingress', 'buffer', 'worker', 'worker'];
const CUT_OFF = 2;
/** On a busy machine the run that was seen may have been settled before the cut: then there is nothing to be refused. */
const CUTS_MAX = 4;
const REFUSED_MS = 15_000;

const conflictsOf = async ({ healthUrl }: SluiceServer): Promise<number> => {
  const text = await (await fetch(`${healthUrl}/metrics`)).text();
  return [...text.matchAll(/^sluice_settle_conflicts_total\{.*\} (\d+)/gm)].reduce(
    (sum, [, n]) => sum + Number(n),
    0,
  );
};

describeWithRedis('a worker that is cut off for three leases, its sockets half-open', () => {
  it(`has its late settle refused and counted; rows have one result (SLUICE_TEST_SEED=${SEED})`, async () => {
    await using redis = await RedisServer.start();
    await using proxy = await TcpProxy.start(redis.port);
    const prefix = 'cut';
    const farHome = redisHome(`redis://127.0.0.1:${proxy.port}`, prefix);
    const options = {
      home: redisHome(redis.url, prefix),
      roles: ROLES,
      args: ['--lease', `${LEASE_MS}ms`, '--health-port', '0'],
      place: (place: number) => (place === CUT_OFF ? { home: farHome } : {}),
      // Longer than a heartbeat is apart, so that the worker is always in a run.
      witness: { runMs: 300 },
    };
    await withRig(options, async ({ ledger, herd, witness }) => {
      const worker = herd.at(CUT_OFF);
      ledger.load(8);
      let cuts = 0;
      const cut = async (): Promise<void> => {
        cuts += 1;
        const runs = witness.runs().length;
        await eventually('the worker is in a run', async () =>
          witness
            .runs()
            .slice(runs)
            .some((run) => run.worker === worker.pid),
        );
        proxy.silence();
        const end = performance.now() + 3 * LEASE_MS;
        while (performance.now() < end) await ledger.progress(1);
        proxy.resume();
      };
      for (let round = 0; round < ROUNDS; round += 1) {
        const before = await conflictsOf(worker);
        for (let isRefused = false, left = CUTS_MAX; !isRefused; left -= 1) {
          await cut();
          isRefused = await eventually(
            'its late settle is refused',
            async () => (await conflictsOf(worker)) > before,
            REFUSED_MS,
          ).catch((error: Error) => {
            if (left === 1) throw error;
            return false;
          });
        }
      }
      const seen = witness.runs().length;
      await eventually('it works again', async () =>
        witness
          .runs()
          .slice(seen)
          .some((run) => run.worker === worker.pid),
      );
      await ledger.unload();
      const tally = await ledger.balance();
      ledger.expectRerunsOf(new Set([worker.pid]), cuts);
      const conflicts = await conflictsOf(worker);
      console.info(`cut off, seed ${SEED}: ${cuts} times, ${conflicts} conflicts; ${tallyText(tally)}`);
      expect(tally.reruns).toBeGreaterThan(0);
    });
  });
});
