/** Runs before each test file: properties draw from the seed of the run, as all other random tests do. */
import fc from 'fast-check';
import { SEED } from './seed.ts';

fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: SEED });
