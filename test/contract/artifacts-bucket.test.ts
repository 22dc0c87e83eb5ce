import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { openArtifacts } from '../../shared/store/artifacts/index.ts';
import { describeWithS3, S3Server } from '../support/s3-server.ts';
import { artifactsSuite } from './artifacts-suite.ts';

describeWithS3('artifacts in a bucket', () => {
  artifactsSuite(async () => {
    const s3 = await S3Server.start();
    const cacheDirectory = await mkdtemp(path.join(tmpdir(), 'sluice-artifacts-'));
    const bucket = s3.options();
    return {
      open: () =>
        openArtifacts({ kind: 'bucket', bucket, cacheDirectory, cacheBytesMax: 2 ** 40, reserveBytes: 0 }),
      remove: async () => {
        await s3.stop();
        await rm(cacheDirectory, { recursive: true, force: true });
      },
    };
  });
});
