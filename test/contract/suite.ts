/** The contract that every store keeps. A store's own test file only builds it; what differs is in its capabilities. */
import { describe } from 'vitest';
import { admissionSuite } from './admission-suite.ts';
import { batchSuite } from './batch-suite.ts';
import { documentsSuite } from './documents-suite.ts';
import { endingSuite } from './ending-suite.ts';
import type { StoreFactory } from './factory.ts';
import { ledgerSuite } from './ledger-suite.ts';
import { readingSuite } from './reading-suite.ts';
import { registrySuite } from './registry-suite.ts';
import { restartSuite } from './restart-suite.ts';
import { retentionSuite } from './retention-suite.ts';
import { retiringSuite } from './retiring-suite.ts';
import { slotSuite } from './slot-suite.ts';

const SUITES = {
  'admits calls': admissionSuite,
  'seals, leases and settles batches': batchSuite,
  'ends calls': endingSuite,
  'counts worker slots': slotSuite,
  'tells and shows': readingSuite,
  'registers functions and keys': registrySuite,
  'keeps documents': documentsSuite,
  'keeps and drops results': retentionSuite,
  'retires versions': retiringSuite,
  'starts again': restartSuite,
  'keeps a ledger': ledgerSuite,
};

/** Where a store keeps the bytes of calls changes nothing in them; the store itself runs them without a bucket. */
const WITHOUT_BYTES: readonly string[] = ['counts worker slots', 'keeps documents'];

/** @param describeStore how its tests are declared; those of a store that a machine may lack say why they are skipped */
export const storeContract = (
  factory: StoreFactory,
  describeStore: (name: string, suite: () => void) => void = describe,
): void => {
  const isOf = (name: string): boolean => !factory.capabilities.uploads || !WITHOUT_BYTES.includes(name);
  describeStore(`the ${factory.name} store`, () => {
    for (const [name, suite] of Object.entries(SUITES)) if (isOf(name)) describe(name, () => suite(factory));
  });
};
