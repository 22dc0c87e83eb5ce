import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { SEED } from './test/support/seed.ts';

console.info(`SLUICE_TEST_SEED=${SEED} replays the random tests of this run.`);

/** Vitest leaves one core free, which is half of a small machine; most tests wait for processes and disks. */
const CORES = availableParallelism();

/** A long file that begins last runs alone at the end, while all other cores wait for it. */
const LONGEST = [
  'test/sim/queue.test.ts',
  'test/unit/store/transfer/redis-s3.test.ts',
  'test/contract/redis-s3.test.ts',
  'test/contract/embedded.test.ts',
  'test/unit/redis-store/link.test.ts',
  'test/e2e/kills.test.ts',
  'test/e2e/containers.test.ts',
  'test/e2e/image.test.ts',
  'test/e2e/openai-batches.test.ts',
  'test/e2e/server.test.ts',
  'test/e2e/models.test.ts',
  'test/e2e/readme.test.ts',
  'test/e2e/cli.test.ts',
  'test/e2e/roles.test.ts',
];

const rank = ({ moduleId }: TestSpecification): number => {
  const at = LONGEST.findIndex((file) => moduleId.endsWith(file));
  return at < 0 ? LONGEST.length : at;
};

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return (await super.sort(files)).toSorted((a, b) => rank(a) - rank(b));
  }
}

export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        test: {
          name: 'unit',
          include: [
            'test/unit/**/*.test.ts',
            'test/contract/**/*.test.ts',
            'test/sim/**/*.test.ts',
            'test/*.test.ts',
          ],
          testTimeout: 300_000,
          hookTimeout: 120_000,
          pool: 'forks',
          maxWorkers: Math.max(2, CORES),
          setupFiles: ['test/support/seeded-properties.ts'],
          expect: { poll: { timeout: 60_000 } },
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts', 'test/faults/**/*.test.ts'],
          testTimeout: 900_000,
          hookTimeout: 300_000,
          pool: 'forks',
          maxWorkers: Math.max(2, CORES - 1),
          // Projects that share a group need the same number of workers.
          sequence: { groupOrder: 1 },
          setupFiles: ['test/support/seeded-properties.ts'],
          expect: { poll: { timeout: 60_000 } },
        },
      },
    ],
  },
});
