import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { LIMITS } from './factory.ts';
import { openFrozenStore } from './frozen-store.ts';
import { storeContract } from './suite.ts';

storeContract({
  name: 'embedded',
  capabilities: { durability: 'fsync', keepsLeases: false, limitsBytes: true },
  home: async () => {
    const directory = await mkdtemp(path.join(tmpdir(), 'sluice-store-'));
    return {
      open: (overrides) => openFrozenStore({ ...LIMITS, ...overrides, directory, durability: 'fsync' }),
      remove: () => rm(directory, { recursive: true, force: true }),
    };
  },
});
