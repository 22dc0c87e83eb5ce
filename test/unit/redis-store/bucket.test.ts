import { createServer } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Bucket } from '../../../shared/store/bucket/bucket.ts';
import type { LeasedBatch } from '../../../shared/store/ports/queue.ts';
import type { BucketOptions } from '../../../shared/store/ports/server.ts';
import { LIMITS } from '../../contract/factory.ts';
import { Workshop } from '../../contract/workshop.ts';
import { RedisServer } from '../../support/redis-servers.ts';
import { openRedis } from '../../support/redis-store.ts';
import { describeWithS3, S3Server } from '../../support/s3-server.ts';
import { QueueRig, UnreliableDispatch } from './queue-rig.ts';

const BYTES = 5000;
const FN = 7;
const RETENTION_MS = 3_600_000;

describeWithS3('a store with a bucket', () => {
  let redis: RedisServer;
  let s3: S3Server;
  let prefixes = 0;
  beforeAll(async () => {
    [redis, s3] = await Promise.all([RedisServer.start({ aof: 'no' }), S3Server.start()]);
  });
  afterAll(async () => {
    await redis.stop();
    await s3.stop();
  });

  /** Each has a part of the bucket for itself. */
  const open = async (overrides: Partial<BucketOptions> = {}, dispatch = new UnreliableDispatch()) => {
    prefixes += 1;
    const prefix = `t${prefixes}`;
    const rig = await QueueRig.open(
      redis.url,
      prefix,
      dispatch,
      s3.options({ prefix: `${prefix}/`, ...overrides }),
    );
    const objects = async (): Promise<string[]> =>
      (await s3.keys()).filter((key) => key.startsWith(`${prefix}/`));
    const sweep = (): Promise<boolean> => rig.context.largeBytes.sweep(FN, rig.now);
    return { rig, objects, sweep, [Symbol.asyncDispose]: () => rig[Symbol.asyncDispose]() };
  };

  const leaseOf = async (rig: QueueRig, callId: number): Promise<LeasedBatch> => {
    await rig.seal(callId, 0, 2);
    const [batch] = await rig.lease();
    return batch!;
  };
  const result = async (rig: QueueRig, callId: number) => {
    const page = await rig.queue.result({ callId, from: 0, bytesMax: 1 });
    return page === undefined || page === 'gone' ? page : page.parts;
  };

  it('keeps payload and output in it as long as a record names them, in folders of the hour', async () => {
    await using shop = await open();
    const { rig, objects, sweep } = shop;
    const id = await rig.admit(2, BYTES);
    const [payload] = await objects();
    expect(payload).toMatch(/^t\d+\/generation\/7\/2027-01-15T08\/[0-9a-f-]{36}$/);
    expect(await rig.keys()).not.toContain('payload:1');
    const batch = await leaseOf(rig, id);
    expect(batch.calls[0]!.payload).toEqual({ kind: 'arrow', bytes: new Uint8Array(BYTES) });
    await rig.settle(batch, BYTES);
    expect(await sweep()).toBe(false);
    const [output, ...rest] = await objects();
    expect(rest).toEqual([]);
    expect(output).not.toBe(payload);
    rig.context.blobs.delete(batch.batchId);
    const bytes = new Uint8Array(BYTES).fill(batch.batchId % 251);
    expect(await result(rig, id)).toMatchObject([{ state: 'ok', count: 2, output: { bytes } }]);
    await rig.passRetention();
    await sweep();
    expect(await objects()).toEqual([]);
    expect(await rig.keys()).not.toContain('unnamed');
  });

  it('is empty again when the retention of the calls is over', async () => {
    const bucket = s3.options({ prefix: 'retained/' });
    const home = {
      open: () => openRedis(redis.url, 'retained', { bucket }),
      remove: async () => undefined,
    };
    await using shop = new Workshop(home);
    await shop.open();
    const payload = { kind: 'arrow', bytes: new Uint8Array(BYTES) } as const;
    const [first, second] = [await shop.admit(2, { payload }), await shop.admit(2, { payload })];
    await shop.settleOk(await shop.run([first, 0, 2], [second, 0, 1]), BYTES);
    await shop.settleOk(await shop.run([second, 1, 1]), BYTES);
    const objects = async () => (await s3.keys()).filter((key) => key.startsWith('retained/'));
    const sweep = () => shop.store.retention.sweep({ now: shop.now, limit: 10 });
    await sweep();
    expect((await objects()).length).toBe(2);
    shop.now += LIMITS.retentionMs;
    await sweep();
    expect(await objects()).toEqual([]);
    const counted = { bucket_writes: 4, bucket_written_bytes: 4 * BYTES, bucket_reads: 2, bucket_deletes: 4 };
    expect(await shop.store.counters()).toMatchObject(counted);
  });

  it('leaves small bytes and calls of no rows in Redis', async () => {
    await using shop = await open();
    const { rig, objects } = shop;
    const id = await rig.admit(2, 1023);
    await rig.admit(0, BYTES);
    await rig.settle(await leaseOf(rig, id), 1023);
    expect(await objects()).toEqual([]);
    expect(await result(rig, id)).toMatchObject([{ state: 'ok', count: 2 }]);
  });

  it('deletes what refused, repeated and stale verbs left behind', async () => {
    await using shop = await open();
    const { rig, objects, sweep } = shop;
    const id = await rig.admit(2, BYTES, 'k');
    expect(await rig.admit(2, BYTES, 'k')).toBe(id);
    const batch = await leaseOf(rig, id);
    expect(await rig.settle({ ...batch, token: 'x' }, BYTES)).toMatchObject({ stale: true });
    await rig.queue.cancel({ now: rig.now, callId: id });
    expect(await rig.settle(batch, BYTES)).toMatchObject({ accepted: true });
    expect((await objects()).length).toBe(4);
    await sweep();
    expect(await objects()).toEqual([]);
  });

  it('gives up an upload that no verb came to name, after an hour, and refuses the verb from then on', async () => {
    await using shop = await open();
    const { rig, objects, sweep } = shop;
    const { largeBytes } = rig.context;
    const bytes = new Uint8Array(BYTES);
    await largeBytes.naming(FN, rig.now, bytes, async (reference) => {
      expect(await sweep()).toBe(false);
      expect((await objects()).length).toBe(1);
      rig.now += RETENTION_MS + 1;
      await sweep();
      expect(await objects()).toEqual([]);
      const key = rig.layout.key(FN, 'generation');
      const run = rig.link.run('give-up', [key], ['generation', rig.now, 0, reference]);
      expect(await run).toBe(0);
    });
  });

  it('names an object before its first byte leaves, and refuses a verb whose upload was given up', async () => {
    await using shop = await open();
    const { rig } = shop;
    const { largeBytes } = rig.context;
    const naming = largeBytes.naming.bind(largeBytes);
    largeBytes.naming = (fn, now, bytes, verb) =>
      naming(fn, now, bytes, async (reference) => {
        expect(await rig.command('ZSCORE', 'uploads', reference)).not.toBeNull();
        await rig.command('DEL', 'uploads');
        return verb(reference);
      });
    await expect(rig.admit(2, BYTES)).rejects.toMatchObject({ code: 'store_unavailable', retryable: true });
    const small = await rig.admit(2);
    const batch = await leaseOf(rig, small);
    await expect(rig.settle(batch, BYTES)).rejects.toMatchObject({ code: 'store_unavailable' });
    expect(await rig.settle(batch)).toMatchObject({ accepted: true });
  });

  it('fails the rows of a call whose payload is lost, and says of a lost output that it is gone', async () => {
    await using shop = await open();
    const { rig, objects } = shop;
    const id = await rig.admit(2, BYTES);
    const other = await rig.admit(2, BYTES);
    const batch = await leaseOf(rig, other);
    await rig.settle(batch, BYTES);
    for (const key of await objects()) await s3.remove(key);
    await rig.seal(id, 0, 2);
    expect(await rig.lease(4)).toEqual([]);
    const error = { code: 'internal', message: 'the payload of the call is not there' };
    expect(await result(rig, id)).toMatchObject([{ state: 'failed', count: 2, error }]);
    rig.context.blobs.delete(batch.batchId);
    expect(await result(rig, other)).toBe('gone');
  });

  it('hands what it cannot read back at no cost, with what it has read', async () => {
    await using shop = await open();
    const { rig } = shop;
    const id = await rig.admit(2, BYTES);
    await rig.seal(id, 0, 2);
    const { largeBytes } = rig.context;
    const read = largeBytes.read.bind(largeBytes);
    const away = Object.assign(new Error('away'), { code: 'store_unavailable' });
    largeBytes.read = async () => Promise.reject(away);
    await expect(rig.lease()).rejects.toBe(away);
    const small = await rig.admit(1);
    await rig.seal(small, 0, 1);
    expect((await rig.lease(8)).map(({ calls }) => calls[0]!.callId)).toEqual([small]);
    largeBytes.read = read;
    const [batch] = await rig.lease();
    expect(batch).toMatchObject({ claims: 0, attempts: 0, calls: [{ callId: id }] });
  });
});

describeWithS3('a bucket that does not answer', () => {
  let redis: RedisServer;
  let s3: S3Server;
  beforeAll(async () => {
    [redis, s3] = await Promise.all([RedisServer.start({ aof: 'no' }), S3Server.start()]);
  });
  afterAll(async () => {
    await redis.stop();
    await s3.stop();
  });
  const openStore = (prefix: string, bucket: BucketOptions | null) =>
    openRedis(redis.url, prefix, { bucket });

  it('refuses the start with a reason, and names no secret', async () => {
    const wrong = { code: 'store_unavailable', retryable: true };
    const missing = openStore('a', s3.options({ name: 'no-such-bucket' }));
    await expect(missing).rejects.toMatchObject({ ...wrong, message: expect.stringMatching(/NoSuchBucket/) });
    const secret = process.env.AWS_SECRET_ACCESS_KEY!;
    process.env.AWS_SECRET_ACCESS_KEY = 'another';
    const denied = await openStore('a', s3.options()).catch((error: Error) => error);
    process.env.AWS_SECRET_ACCESS_KEY = secret;
    expect(denied).toMatchObject({ ...wrong, message: expect.stringMatching(/SignatureDoesNotMatch/) });
    expect(String(denied)).not.toMatch(/another/);
  });

  it('refuses calls in a sentence while nothing listens, and takes them again', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    server.close();
    const rig = await QueueRig.open(
      redis.url,
      'b',
      null,
      s3.options({ endpoint: `http://127.0.0.1:${port}` }),
    );
    await expect(rig.admit(1, BYTES)).rejects.toMatchObject({
      code: 'store_unavailable',
      message: expect.stringMatching(/^The bucket "sluice-\w+" does not take 5000 bytes: .*ECONNREFUSED/),
      extra: { retry_after_seconds: 2 },
    });
    await expect(rig.admit(1)).resolves.toBeGreaterThan(0);
    await rig[Symbol.asyncDispose]();
  });

  it('ends what is under way when the store is closed', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    const asked = new Promise((resolve) => {
      server.once('connection', (socket) => socket.on('error', () => undefined).once('data', resolve));
    });
    const bucket = new Bucket(s3.options({ endpoint: `http://127.0.0.1:${port}` }));
    const getting = expect(bucket.get('k', 1)).rejects.toThrow('does not give k: the store is closed.');
    await asked;
    await bucket.close();
    await getting;
    server.close();
  });

  it('is the same for every process of a store', async () => {
    const first = await openStore('c', s3.options());
    await first.close();
    const field = { code: 'invalid_request', extra: { field: 's3Bucket' } };
    await expect(openStore('c', null)).rejects.toMatchObject(field);
    await expect(openStore('c', s3.options({ name: 'another' }))).rejects.toMatchObject(field);
    const again = await openStore('c', s3.options({ thresholdBytes: 2 ** 40 }));
    expect(again.connect().queue.durability).toBe('redis:aof=off,s3');
    await again.close();
  });
});
