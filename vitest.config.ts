import { defineConfig } from 'vitest/config';

/**
 * V8 keeps one map of code pages for all threads of a process and aborts when starts and ends of threads race in it
 * ("Check failed: jit_page.has_value()", nodejs/node#64500). Tests start hundreds of store threads, so they run without the
 * protection keys that the map serves.
 */
const execArgv = ['--no-memory-protection-keys'];

export default defineConfig({
  test: {
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
          testTimeout: 60_000,
          pool: 'forks',
          execArgv,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts', 'test/faults/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 120_000,
          pool: 'forks',
          execArgv,
        },
      },
    ],
  },
});
