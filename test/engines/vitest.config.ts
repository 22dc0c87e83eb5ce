import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    name: 'engines',
    include: ['test/engines/**/*.test.ts'],
    testTimeout: 120_000,
    pool: 'forks',
  },
});
