/** The queue's verbs on a real Redis with one function, whose keys a test can look at, and a dispatcher of its choice. */

import { BlobCache } from '../../../shared/store/blob-cache.ts';
import type { LeasedBatch, QueueStore } from '../../../shared/store/ports/queue.ts';
import type { BucketOptions } from '../../../shared/store/ports/server.ts';
import { parseAddress } from '../../../shared/store/redis/address.ts';
import { Announced } from '../../../shared/store/redis/announced.ts';
import { ServerClock } from '../../../shared/store/redis/clock.ts';
import type { Dispatch, DispatchedBatch } from '../../../shared/store/redis/dispatch.ts';
import { LargeBytes } from '../../../shared/store/redis/large-bytes.ts';
import { LargeTurns } from '../../../shared/store/redis/large-turns.ts';
import { Layout, versionIdOf } from '../../../shared/store/redis/layout.ts';
import { Link } from '../../../shared/store/redis/link.ts';
import { OutputReads } from '../../../shared/store/redis/output-reads.ts';
import { makeQueue } from '../../../shared/store/redis/queue.ts';
import type { QueueContext } from '../../../shared/store/redis/queue-context.ts';
import { okOutcomes } from '../../contract/workshop.ts';

export const FENCE = 'fence';
export const GENERATION = 'generation';
export const FN = 7;
export const RETENTION_MS = 3_600_000;

/** Gives every job twice, the later ones first. */
export class UnreliableDispatch implements Dispatch {
  #jobs: DispatchedBatch[] = [];
  isBroken = false;

  async add(_versionId: number, batchId: number, attempt: number): Promise<void> {
    if (this.isBroken) throw new Error('the dispatcher is away');
    const job = { batchId, attempt, job: `${batchId}-${attempt}` };
    this.#jobs = [job, ...this.#jobs, job];
  }

  async take(_versionId: number, _workerId: string, max: number): Promise<readonly DispatchedBatch[]> {
    return this.#jobs.splice(0, max);
  }

  async extend(): Promise<void> {}
  async done(): Promise<void> {}
  async handBack(): Promise<void> {}
}

export class QueueRig {
  readonly link: Link;
  readonly layout: Layout;
  readonly context: QueueContext;
  readonly queue: QueueStore;
  readonly versionId = versionIdOf(FN, 1);
  now = 1_800_000_000_000;

  private constructor(url: string, prefix: string, dispatch: Dispatch | null, bucket: BucketOptions | null) {
    this.link = new Link({ address: parseAddress(url), url, name: 'rig' });
    this.layout = new Layout(prefix);
    const largeBytes = new LargeBytes(
      { link: this.link, layout: this.layout, generation: GENERATION },
      bucket,
    );
    const blobs = new BlobCache(2 ** 20);
    this.context = {
      link: this.link,
      layout: this.layout,
      generation: GENERATION,
      durability: 'redis',
      limits: {
        queueRowsMax: 1e9,
        queueBytesMax: 1e12,
        retentionMs: RETENTION_MS,
        acknowledgedRetentionMs: 60_000,
      },
      clock: new ServerClock(this.link, 1000),
      functions: {
        version: async () => ({ functionName: 'f', digest: '', isolation: 'bisect' }),
        number: async () => FN,
        anyNumber: async () => FN,
        numbers: async () => [FN],
        owned: () => [FN],
      },
      dispatch,
      checkRoom: () => undefined,
      counters: {},
      largeBytes,
      largeTurns: new LargeTurns(() => !this.link.isReady),
      blobs,
      outputs: new OutputReads({ link: this.link, layout: this.layout, largeBytes }, blobs),
      overdue: new Map(),
      announced: new Announced(),
      jobs: new Map(),
    };
    const events = { watch: () => () => undefined, hearSlots: () => undefined };
    this.queue = makeQueue(this.context, events).queue;
  }

  static async open(
    url: string,
    prefix: string,
    dispatch: Dispatch | null = null,
    bucket: BucketOptions | null = null,
  ): Promise<QueueRig> {
    const rig = new QueueRig(url, prefix, dispatch, bucket);
    await rig.command('SET', 'generation', GENERATION);
    await rig.command('HSET', 'function', 'name', 'f');
    await rig.command('HSET', 'versions', 1, 'digest');
    await rig.command('HSET', 'owner', 'fence', FENCE);
    return rig;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.context.largeBytes.close();
    await this.link.close();
  }

  /** Scripts that were asked for so far. */
  get verbs(): number {
    return this.context.counters.verbs ?? 0;
  }

  command<T>(name: string, key: string, ...args: (string | number)[]): Promise<T> {
    return this.link.command<T>(name, this.layout.key(FN, key), ...args);
  }

  /** The names of the function's keys, without what they share. */
  async keys(): Promise<string[]> {
    const base = this.layout.base(FN);
    const found = await this.link.command<Buffer[]>('KEYS', `${base}*`);
    return found.map((key) => String(key).slice(base.length)).sort();
  }

  async admit(rows: number, bytes = 60, idempotencyKey: string | null = null): Promise<number> {
    const { callId } = await this.queue.admit({
      now: this.now,
      functionName: 'f',
      versionId: this.versionId,
      apiKeyId: 0,
      lane: '',
      priority: 0,
      deadlineAt: null,
      rows,
      bytes,
      schemaKey: '',
      payload: { kind: 'arrow', bytes: new Uint8Array(bytes) },
      idempotency: idempotencyKey === null ? null : { key: idempotencyKey, bodyDigest: 'd' },
      metadata: {},
      traceparent: null,
    });
    return callId;
  }

  seal(callId: number, from: number, count: number, fence = FENCE) {
    const slices = [{ callId, from, count }];
    return this.queue.seal({ now: this.now, versionId: this.versionId, slices, reason: 'size', fence });
  }

  lease(max = 1): Promise<readonly LeasedBatch[]> {
    const { now, versionId } = this;
    return this.queue.lease({ now, versionId, workerId: 'w', leaseMs: 30_000, max });
  }

  settle(batch: LeasedBatch, bytes = 64) {
    return this.queue.settle({
      now: this.now,
      batchId: batch.batchId,
      token: batch.token,
      outcomes: okOutcomes(batch.slices),
      output: new Uint8Array(bytes).fill(batch.batchId % 251),
      continuations: [],
      startedAt: this.now,
      handlerMs: 1,
    });
  }

  /** Its first call's rows go on one by one. */
  split({ batchId, token, slices }: LeasedBatch) {
    const { callId, count } = slices[0]!;
    const parts = Array.from({ length: count }, (_, from) => ({ slices: [{ callId, from, count: 1 }] }));
    const how = { attempts: 1, claims: 0, mode: 'isolate', notBefore: 0 } as const;
    const continuations = parts.map((part) => ({ ...part, ...how }));
    const run = { outcomes: [], output: null, startedAt: this.now, handlerMs: 1 };
    return this.queue.settle({ now: this.now, batchId, token, continuations, ...run });
  }

  expire() {
    return this.queue.expired({ now: this.now, claimsMax: 5, limit: 100 });
  }

  /** Drops what is past its retention. */
  sweep(): Promise<[calls: number, more: number]> {
    const key = this.layout.key(FN, 'generation');
    return this.link.run<[number, number]>('sweep', [key], [GENERATION, this.now, RETENTION_MS, 1000]);
  }

  async passRetention(): Promise<void> {
    this.now += RETENTION_MS;
    await this.sweep();
  }
}
