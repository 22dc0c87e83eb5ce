/**
 * kill -9 of processes and of handlers, at random moments under load, with restarts: no accepted row is lost, none has
 * two results, and what runs again is what the killed had in flight. Embedded: the one server. Redis: two processes of
 * each role. The seed is printed; SLUICE_KILLS=n runs more.
 */
import { expect, it, vi } from 'vitest';
import { Random } from '../sim/random.ts';
import { CallLedger, tallyText } from '../support/call-ledger.ts';
import { Herd } from '../support/herd.ts';
import { SEED } from '../support/seed.ts';
import { onEveryStore, type StoreUnderTest } from '../support/stores.ts';
import { Witness } from '../support/witness.ts';

const LONG = process.env.SLUICE_TEST_LONG !== undefined;
vi.setConfig({ testTimeout: LONG ? 3_600_000 : 900_000 });

type Plan = { readonly roles: readonly string[]; readonly args: readonly string[]; readonly kills: number };

const PLANS: Readonly<Record<StoreUnderTest['name'], Plan>> = {
  embedded: { roles: ['all'], args: [], kills: LONG ? 300 : 50 },
  redis: {
    roles: ['ingress', 'ingress', 'buffer', 'buffer', 'worker', 'worker'],
    // Leases outlive a worker here; a paused test machine must not lose one either.
    args: ['--lease', '3s'],
    kills: LONG ? 150 : 15,
  },
};

onEveryStore((store) => {
  it(`random kills lose no accepted row and answer none twice (SLUICE_TEST_SEED=${SEED})`, async () => {
    const { roles, args, kills } = PLANS[store.name];
    const random = new Random(SEED);
    const home = await store.makeHome();
    const witness = new Witness();
    const herd = await Herd.start(home, { roles, random, args });
    const ledger = new CallLedger({ witness, random, door: () => herd.door() });
    try {
      await herd.door()!.deploy(witness.source);
      ledger.load(8);
      for (let kill = 0; kill < Number(process.env.SLUICE_KILLS ?? kills); kill += 1) {
        await ledger.progress(random.int(1, 12));
        await herd.killOne();
      }
      await ledger.unload();
      const tally = await ledger.balance();
      expect(tally.calls).toBeGreaterThan(herd.kills);
      ledger.expectRerunsOf(herd.killed);
      console.info(`${store.name}, seed ${SEED}: ${herd.kills} kills; ${tallyText(tally)}`);
    } finally {
      ledger.abandon();
      await herd.stop();
      await home.remove();
      witness.remove();
    }
  });
});
