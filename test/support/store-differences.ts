/**
 * Tests that one store has and another has not, with the reason. test/store-parity.test.ts fails for a difference that
 * is not here, and for one that is here and is none any more.
 */
export type StoreName = 'embedded' | 'redis';

export type Difference = {
  readonly area: 'contract' | 'sim' | 'e2e';
  readonly only: StoreName;
  /** The beginning of the names, below `the NAME store`. */
  readonly tests: string;
  readonly reason: string;
};

export const DIFFERENCES: readonly Difference[] = [
  {
    area: 'contract',
    only: 'embedded',
    tests: 'admits calls > refuses at its limit of bytes',
    reason: 'Redis has maxmemory instead of a limit of ours; its refusals are in test/unit/redis-store.',
  },
  {
    area: 'contract',
    only: 'embedded',
    tests: 'starts again > leases sealed and leased batches again, at no cost',
    reason: 'Leases in Redis outlive the processes of Sluice.',
  },
  {
    area: 'contract',
    only: 'embedded',
    tests: 'starts again > expires the rest of a call whose deadline passed while rows ran',
    reason: 'Leases in Redis outlive the processes of Sluice.',
  },
  {
    area: 'e2e',
    only: 'embedded',
    tests: 'a function that asks for a GPU on a machine without one > runs under `sluice dev`',
    reason: '`sluice dev` is always embedded.',
  },
  {
    area: 'e2e',
    only: 'embedded',
    tests: 'sluice dev > stays on the embedded store',
    reason: '`sluice dev` is always embedded.',
  },
  {
    area: 'e2e',
    only: 'embedded',
    tests: 'the data directory > has one owner',
    reason: 'A Redis is shared by design; test/e2e/roles.test.ts has several processes on one.',
  },
  {
    area: 'e2e',
    only: 'embedded',
    tests: 'a data directory at its limit > ',
    reason:
      'Redis has maxmemory instead of a limit of ours; test/faults/redis/full-memory.test.ts has its refusals.',
  },
  {
    area: 'e2e',
    only: 'redis',
    tests: 'processes of one role each > ',
    reason: 'One process has every role on the embedded store.',
  },
  {
    area: 'e2e',
    only: 'redis',
    tests: 'the buffer of a function > ',
    reason: 'One process has every role on the embedded store.',
  },
  {
    area: 'e2e',
    only: 'redis',
    tests: 'processes whose store does not answer > ',
    reason: 'The embedded store is the process itself: it cannot be away while that runs.',
  },
  {
    area: 'e2e',
    only: 'redis',
    tests: 'a rolling upgrade > ',
    reason: 'One process has every role on the embedded store.',
  },
  {
    area: 'e2e',
    only: 'redis',
    tests: 'traces one row through the roles',
    reason: 'The embedded store has one process, with all roles.',
  },
];

/** Files of test/e2e with tests that are of neither store, with the reason; what they run on is the embedded store. */
export const OF_NO_STORE: Readonly<Record<string, string>> = {
  'compose.test.ts': 'The compose file is the Redis store: two of each role, in containers.',
  'containers.test.ts':
    "Containers are the worker's affair, which meets both stores at one port; an image each would take minutes.",
  'engine-images.test.ts':
    'As containers.test.ts. Engines that are commands run on both stores (engines.test.ts).',
  'image.test.ts': 'One image for both stores; its last test runs it on Redis.',
  'limits.test.ts':
    'The door refuses what is too large before a store hears of it; python/tests/test_limits_live.py has both.',
  'migrate.test.ts': 'A migration has a store of each kind.',
  'readme.test.ts': 'The README runs `sluice dev`, which is always embedded.',
  'sql.test.ts':
    'The command asks over HTTP; what queries hold is tested on both stores in python/tests/test_sql_live.py.',
};
