/**
 * Dispatch by BullMQ: a queue for each function version, a job for each time that a batch becomes ready, with the id
 * `b-<batch>-<attempt>` and nothing in it but these two numbers. BullMQ says which worker tries which batch; what a job
 * came to is never asked of it. Its retries are off, finished jobs are removed at once, and a job whose worker went
 * silent goes back to waiting: whoever takes it finds in the store that its turn is over, and drops it.
 */
import { type Job as BullJob, createRedisBackend, Queue, Worker } from 'bullmq';
import type { RedisAddress } from './address.ts';
import { type Connection, connectCommands } from './connecting.ts';
import type { Dispatch, DispatchedBatch, Job } from './dispatch.ts';
import type { Layout } from './layout.ts';
import { unavailable } from './replies.ts';

/** Entries of a queue's event stream: enough for tools that look at it, some kilobytes. */
const EVENTS_MAX = 100;
/**
 * How often a worker that is asked for jobs looks for those whose lock is over. No batch waits for it: one whose worker died
 * between its job and its lease is overdue in the store, and its job is only cleared away here, or with its version.
 */
const STALLED_MS = 30_000;
/** Jobs asked for at once; one that is not there costs Redis some ten microseconds. */
const TAKEN_MAX = 16;
/** Versions whose queue or worker is kept; one more makes the least recently used anew. */
const CLIENTS_MAX = 1000;
const JOB_NAME = 'batch';

type Data = { readonly batch: number; readonly attempt: number };
type Held = { readonly versionId: number; readonly job: BullJob<Data>; readonly token: string };

/**
 * BullMQ's own timer would look for as long as the worker is there, and write what it needs for that also where the version,
 * and all that was kept of it, has gone.
 */
class AskedWorker extends Worker<Data> {
  #lookedAt = Number.NEGATIVE_INFINITY;

  lookForStalled(): void {
    const now = performance.now();
    if (now - this.#lookedAt < STALLED_MS) return;
    this.#lookedAt = now;
    this.backend.moveStalledJobsToWait().catch(() => undefined);
  }
}

/** The client of a version, which is the most recently used one now. */
const clientOf = <T extends { close(): Promise<void> }>(
  clients: Map<number, T>,
  versionId: number,
  make: () => T,
): T => {
  const client = clients.get(versionId) ?? make();
  clients.delete(versionId);
  clients.set(versionId, client);
  if (clients.size > CLIENTS_MAX) {
    const [oldest, left] = clients.entries().next().value!;
    clients.delete(oldest);
    void left.close().catch(() => undefined);
  }
  return client;
};

export type BullDispatchOptions = {
  readonly address: RedisAddress;
  readonly layout: Layout;
  readonly name: string;
  readonly replyMs: number;
};

export class BullDispatch implements Dispatch {
  readonly #options: BullDispatchOptions;
  readonly #queues = new Map<number, Queue<Data>>();
  readonly #workers = new Map<number, AskedWorker>();
  #connection: Connection | undefined;
  #ready: Promise<void> | undefined;
  readonly #ending = new Set<Promise<unknown>>();
  #tokens = 0;
  #isClosed = false;

  readonly tell: Dispatch['tell'];

  constructor(options: BullDispatchOptions) {
    this.#options = options;
    // In a cluster what is published goes to any node.
    if (options.address.kind !== 'cluster') this.tell = (channel, text) => this.#tell(channel, text);
  }

  async add(versionId: number, batchId: number, attempt: number, delayUntil: number | null): Promise<void> {
    const queue = await this.#queue(versionId);
    const delay = delayUntil === null ? 0 : Math.max(delayUntil - Date.now(), 0);
    const options = { jobId: `b-${batchId}-${attempt}`, delay };
    await queue.add(JOB_NAME, { batch: batchId, attempt }, options).catch((error: Error) => {
      // A queue that could not begin never will: the next job gets another.
      this.#queues.delete(versionId);
      throw unavailable(error.message);
    });
  }

  async take(
    versionId: number,
    workerId: string,
    max: number,
    leaseMs: number,
  ): Promise<readonly DispatchedBatch[]> {
    const worker = await this.#worker(versionId);
    worker.opts.lockDuration = leaseMs;
    worker.lookForStalled();
    const taken: DispatchedBatch[] = [];
    for (let asked = 0; taken.length === asked && asked < max; ) {
      const count = Math.min(max - asked, TAKEN_MAX);
      asked += count;
      const found = await this.#takeTogether(versionId, worker, workerId, count).catch((error: unknown) => {
        // What was taken before is held: the caller must hear of it.
        if (taken.length === 0) throw error;
        return [];
      });
      taken.push(...found);
    }
    return taken;
  }

  /** One after the other, each would wait for the disk of the one before. */
  async #takeTogether(
    versionId: number,
    worker: AskedWorker,
    workerId: string,
    count: number,
  ): Promise<readonly DispatchedBatch[]> {
    const asking = Array.from({ length: count }, async () => {
      this.#tokens += 1;
      const token = `${workerId}:${this.#tokens}`;
      return { token, job: await this.#next(versionId, worker, token) };
    });
    const asked = await Promise.allSettled(asking);
    const taken = asked.flatMap((one): DispatchedBatch[] => {
      if (one.status === 'rejected' || one.value.job === undefined) return [];
      const { token, job } = one.value;
      const { batch, attempt } = job.data;
      return [{ batchId: batch, attempt, job: { versionId, job, token } satisfies Held }];
    });
    const failed = asked.find(({ status }) => status === 'rejected');
    if (taken.length === 0 && failed !== undefined) throw (failed as PromiseRejectedResult).reason;
    return taken;
  }

  async extend(jobs: readonly Job[], leaseMs: number): Promise<void> {
    const held = Map.groupBy(jobs as readonly Held[], ({ versionId }) => versionId);
    const extending = [...held].map(async ([versionId, list]) => {
      const worker = await this.#worker(versionId);
      const ids = list.map(({ job }) => job.id!);
      await worker.extendJobLocks(
        ids,
        list.map(({ token }) => token),
        leaseMs,
      );
    });
    await Promise.all(extending);
  }

  /** A job that is not there any more is as good as done. */
  async done(job: Job): Promise<void> {
    const held = job as Held;
    const done = held.job.moveToCompleted(null, held.token, false).catch(ignoreMissing);
    this.#ending.add(done);
    await done.finally(() => this.#ending.delete(done));
  }

  async handBack(job: Job): Promise<void> {
    const held = job as Held;
    await held.job.moveToWait(held.token).catch(ignoreMissing);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await Promise.allSettled(this.#ending);
    const open = [...this.#workers.values(), ...this.#queues.values()];
    await Promise.allSettled(open.map((one) => one.close()));
    this.#connection?.disconnect();
  }

  async #tell(channel: string, text: string): Promise<void> {
    const connection = await this.#open();
    // BullMQ sends a job some promises after it was asked to.
    await new Promise((resolve) => setImmediate(resolve));
    await connection.publish(channel, text);
  }

  async #next(versionId: number, worker: Worker<Data>, token: string): Promise<BullJob<Data> | undefined> {
    try {
      return await worker.getNextJob(token, { block: false });
    } catch (error) {
      this.#workers.delete(versionId);
      void worker.close(true).catch(() => undefined);
      throw unavailable((error as Error).message);
    }
  }

  /** The shared connection, once it stands. */
  async #open(): Promise<Connection> {
    if (this.#isClosed) throw unavailable('the store is closed');
    const { address, name, replyMs } = this.#options;
    if (this.#connection === undefined) {
      const connection = connectCommands(address, name, replyMs, () => !this.#isClosed);
      connection.setMaxListeners(0);
      connection.on('error', () => undefined);
      this.#connection = connection;
    }
    const connection = this.#connection;
    if (connection.status === 'ready') return connection;
    this.#ready ??= new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(unavailable('no connection for BullMQ')), replyMs);
      connection.once('ready', () => {
        clearTimeout(timer);
        resolve();
      });
    }).finally(() => {
      this.#ready = undefined;
    });
    await this.#ready;
    return connection;
  }

  async #queue(versionId: number): Promise<Queue<Data>> {
    const connection = await this.#open();
    return clientOf(this.#queues, versionId, () => {
      const { prefix, name } = this.#options.layout.bull(versionId);
      const queue = new Queue<Data>(name, {
        connection,
        prefix,
        defaultJobOptions: { attempts: 1, removeOnComplete: true, removeOnFail: true },
        streams: { events: { maxLen: EVENTS_MAX } },
      });
      queue.on('error', () => undefined);
      return queue;
    });
  }

  async #worker(versionId: number): Promise<AskedWorker> {
    const connection = await this.#open();
    return clientOf(this.#workers, versionId, () => {
      const { prefix, name } = this.#options.layout.bull(versionId);
      const options = {
        connection,
        prefix,
        autorun: false,
        skipLockRenewal: true,
        skipStalledCheck: true,
        stalledInterval: STALLED_MS,
        // Whether a batch was lost too often is counted in the store.
        maxStalledCount: Number.MAX_SAFE_INTEGER,
      };
      // Jobs are fetched when a slot is free and never waited for, so that no second, blocking connection is needed.
      const worker = new AskedWorker(name, null, options, (queue, opts) => createRedisBackend(queue, opts));
      worker.on('error', () => undefined);
      return worker;
    });
  }
}

const ignoreMissing = (error: Error): void => {
  if (!/Missing (lock|key)|not in the|Lock mismatch/i.test(error.message)) throw error;
};
