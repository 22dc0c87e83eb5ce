import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    name: 'kubernetes',
    include: ['test/kubernetes/**/*.test.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    pool: 'forks',
    // One cluster at a time: an API server is half a gigabyte of memory and a core while it starts.
    fileParallelism: false,
  },
});
