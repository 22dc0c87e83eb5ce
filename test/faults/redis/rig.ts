/** Processes of Sluice on a Redis that tests disturb, the function that they run, and the ledger that must balance. */
import { randomBytes } from 'node:crypto';
import { vi } from 'vitest';
import { Random } from '../../sim/random.ts';
import { CallLedger, type LedgerOptions } from '../../support/call-ledger.ts';
import { Herd, type HerdOptions } from '../../support/herd.ts';
import { SEED } from '../../support/seed.ts';
import type { Home } from '../../support/sluice-process.ts';
import { Witness, type WitnessOptions } from '../../support/witness.ts';

export const isLong = process.env.SLUICE_TEST_LONG !== undefined;
vi.setConfig({ testTimeout: isLong ? 1_800_000 : 600_000 });
/** One process of each role. */
export const ROLES = ['ingress', 'buffer', 'worker'];

export const redisHome = (url: string, prefix = `f-${randomBytes(4).toString('hex')}`): Home => ({
  command: 'serve',
  args: ['--store', url, '--redis-prefix', prefix],
  // It goes with the server.
  remove: async () => undefined,
});

export type Rig = {
  readonly random: Random;
  readonly witness: Witness;
  readonly herd: Herd;
  readonly ledger: CallLedger;
};

export type RigOptions = Partial<Pick<HerdOptions, 'roles' | 'args' | 'place'>> & {
  readonly home: Home;
  readonly witness?: WitnessOptions;
  readonly shape?: LedgerOptions['shape'];
};

/** Runs a test on processes with the witnessed function deployed, and ends them. */
export const withRig = async (options: RigOptions, test: (rig: Rig) => Promise<void>): Promise<void> => {
  const { home, roles = ROLES, args = ['--lease', '3s'], place, shape } = options;
  const random = new Random(SEED);
  const witness = new Witness(options.witness);
  const herd = await Herd.start(home, { roles, random, args, ...(place && { place }) });
  const door = () => herd.door();
  const ledger = new CallLedger({ witness, random, door, ...(shape && { shape }) });
  let failure: unknown;
  try {
    await herd.door()!.deploy(witness.source);
    await test({ random, witness, herd, ledger });
  } catch (error) {
    failure = error;
    console.info(`seed ${SEED}; the ends of the processes' logs:`);
    for (const server of herd.alive) console.info(`--- ${server.pid}\n${server.log.slice(-3000)}`);
  }
  // Callers end when nobody is left to ask.
  ledger.abandon();
  await herd.stop();
  witness.remove();
  if (failure !== undefined) throw failure;
};
