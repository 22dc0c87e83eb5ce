/**
 * The simulation: the real buffer, batcher, retry decisions and store under virtual time, with workers that
 * crash, go silent, answer late and twice, and callers that cancel and set deadlines. A failure prints its seed;
 * SLUICE_TEST_SEED=… replays it, SLUICE_SIM_RUNS=… runs more.
 */
import { describe, expect, it } from 'vitest';
import { onEveryOpenedStore } from '../support/opened-stores.ts';
import { SEED } from '../support/seed.ts';
import { World, type WorldOptions } from './world.ts';

const runs = Number(process.env.SLUICE_SIM_RUNS ?? 1);

onEveryOpenedStore((open) => {
  const simulate = async (options: Omit<WorldOptions, 'open'>): Promise<World> => {
    const world = new World({ ...options, open });
    try {
      await world.run();
    } catch (error) {
      throw new Error(`simulation failed; replay with SLUICE_TEST_SEED=${options.seed} SLUICE_SIM_RUNS=1`, {
        cause: error,
      });
    } finally {
      await world.close();
    }
    return world;
  };

  describe.each(Array.from({ length: runs }, (_, run) => SEED + run))('simulation, seed %i', (seed) => {
    it('silent workers and hand-backs lose and double nothing; only poison rows fail', async () => {
      const world = await simulate({
        seed,
        claimsMax: 50,
        killers: false,
        transientShare: 0,
        silentShare: 0.04,
        releaseShare: 0.05,
      });
      expect(world.unexpectedFailures).toEqual([]);
      expect(world.rows).toBeGreaterThan(0);
    });

    it('a row that kills its worker is quarantined and its neighbours succeed', async () => {
      const world = await simulate({
        seed,
        claimsMax: 2,
        killers: true,
        transientShare: 0,
        silentShare: 0,
        releaseShare: 0.05,
      });
      expect(world.unexpectedFailures).toEqual([]);
    });

    it('with everything at once the ledger balances and every answer is the sequential one', async () => {
      await simulate({
        seed,
        claimsMax: 2,
        killers: true,
        transientShare: 0.1,
        silentShare: 0.03,
        releaseShare: 0.05,
      });
    });
  });
});
