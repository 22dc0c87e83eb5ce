import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe } from 'vitest';
import { openArtifacts } from '../../shared/store/artifacts/index.ts';
import { artifactsSuite } from './artifacts-suite.ts';

describe('artifacts in a directory', () => {
  artifactsSuite(async () => {
    const directory = await mkdtemp(path.join(tmpdir(), 'sluice-artifacts-'));
    return {
      open: () => openArtifacts({ kind: 'directory', directory, reserveBytes: 0 }),
      remove: () => rm(directory, { recursive: true, force: true }),
    };
  });
});
