/**
 * A real S3 server for tests, on a free loopback port, with one bucket: what `scripts/s3-server.sh` builds, or the server
 * that SLUICE_TEST_S3 names (an address; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are its keys).
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { CreateBucketCommand, DeleteObjectCommand, ListObjectsV2Command, S3Client } from '@aws-sdk/client-s3';
import { describe, it } from 'vitest';
import type { BucketOptions } from '../../shared/store/ports/server.ts';
import { describeWithRedis } from './redis-servers.ts';

const BINARY = path.resolve(import.meta.dirname, '../../node_modules/.cache/s3-server');
const REGION = 'us-east-1';

const isThere = process.env.SLUICE_TEST_S3 !== undefined || existsSync(BINARY);
const hasGo = (): boolean => spawnSync('go', ['version']).status === 0;

/** A `describe` for suites that need Redis and S3: skipped with a sentence, but a failure in CI where Go could have built it. */
export const describeWithS3 = (name: string, suite: () => void): void => {
  if (isThere) {
    describeWithRedis(name, suite);
  } else if (process.env.CI === 'true' && hasGo()) {
    describe(name, () => {
      it('has an S3 server to run on', () => {
        throw new Error('the S3 server of the tests is not built; run scripts/s3-server.sh.');
      });
    });
  } else {
    describe.skip(
      `${name} (skipped: scripts/s3-server.sh builds the S3 server that they need, with Go)`,
      suite,
    );
  }
};

export class S3Server {
  readonly endpoint: string;
  readonly bucket = `sluice-${randomBytes(4).toString('hex')}`;
  readonly #child: ChildProcess | null;
  readonly #client: S3Client;

  private constructor(endpoint: string, child: ChildProcess | null) {
    this.endpoint = endpoint;
    this.#child = child;
    this.#client = new S3Client({ region: REGION, endpoint, forcePathStyle: true });
  }

  /** Its keys are put into the environment, where the store under test looks for them. */
  static async start(): Promise<S3Server> {
    const given = process.env.SLUICE_TEST_S3;
    let child: ChildProcess | null = null;
    let endpoint = given ?? '';
    if (given === undefined) {
      process.env.AWS_ACCESS_KEY_ID = 'sluice-test';
      process.env.AWS_SECRET_ACCESS_KEY = randomBytes(16).toString('hex');
      child = spawn(BINARY, { stdio: ['pipe', 'pipe', 'ignore'] });
      const [line] = (await once(createInterface({ input: child.stdout! }), 'line')) as [string];
      endpoint = line;
    }
    const server = new S3Server(endpoint, child);
    await server.#client.send(new CreateBucketCommand({ Bucket: server.bucket }));
    return server;
  }

  options(overrides: Partial<BucketOptions> = {}): BucketOptions {
    const { endpoint, bucket } = this;
    return { name: bucket, endpoint, region: REGION, prefix: 'test/', thresholdBytes: 1024, ...overrides };
  }

  async keys(): Promise<string[]> {
    const found = await this.#client.send(new ListObjectsV2Command({ Bucket: this.bucket }));
    return (found.Contents ?? []).map(({ Key }) => Key!);
  }

  async remove(key: string): Promise<void> {
    await this.#client.send(new DeleteObjectCommand({ Bucket: this.bucket, Key: key }));
  }

  /** From here on nothing listens. */
  async stop(): Promise<void> {
    this.#client.destroy();
    if (this.#child === null || this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
