/**
 * The one seed of all random tests of a run: simulations, kills, faults, power cuts and properties. SLUICE_TEST_SEED=…
 * replays a run; without it each run has another one, which vitest.config.ts prints and hands on to the processes of its
 * test files.
 */
const LIMIT = 2 ** 31 - 1;
/** Leaves room for what tests add to it. */
const DRAWN_MAX = 1e9;
process.env.SLUICE_TEST_SEED ||= String(1 + Math.floor(Math.random() * DRAWN_MAX));

export const SEED = Number(process.env.SLUICE_TEST_SEED);

if (!Number.isInteger(SEED) || SEED < 1 || SEED > LIMIT)
  throw new Error(
    `SLUICE_TEST_SEED is ${process.env.SLUICE_TEST_SEED}; give a whole number from 1 to ${LIMIT}.`,
  );
