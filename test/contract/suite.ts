/** The contract that every store keeps. A store's own test file only builds it; what differs is in its capabilities. */
import { describe } from 'vitest';
import { admissionSuite } from './admission-suite.ts';
import { batchSuite } from './batch-suite.ts';
import type { StoreFactory } from './factory.ts';
import { slotSuite } from './slot-suite.ts';

const SUITES = {
  'admits calls': admissionSuite,
  'seals, leases and settles batches': batchSuite,
  'counts worker slots': slotSuite,
};

export const storeContract = (factory: StoreFactory): void => {
  describe(`the ${factory.name} store`, () => {
    for (const [name, suite] of Object.entries(SUITES)) describe(name, () => suite(factory));
  });
};
