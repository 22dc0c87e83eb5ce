/**
 * What the rows would cost on BullMQ alone, as its documentation has it: `addBulk` with a job for each row, Workers with
 * concurrency in Node processes of their own, and the return values from QueueEvents. Finished jobs are removed at once.
 */
import { Queue, QueueEvents } from 'bullmq';
import { launchPeer, type Peer } from './peer.ts';
import type { RedisPeer } from './redis.ts';

const QUEUE = 'rows';
/** Jobs that one worker process has in hand: more made it no faster. */
const CONCURRENCY = 100;

export type BullmqPeer = {
  readonly workers: readonly Peer[];
  /** Adds a job for each text and answers their values in the order of the texts, once all have ended. */
  readonly run: (texts: readonly string[], width: number) => Promise<readonly (readonly number[])[]>;
  readonly stop: () => Promise<void>;
};

type Waiting = { readonly at: number; readonly chunk: Chunk };
type Chunk = {
  readonly values: (readonly number[])[];
  left: number;
  readonly done: PromiseWithResolvers<void>;
};

class Collector {
  readonly #waiting = new Map<string, Waiting>();

  constructor(events: QueueEvents) {
    events.on('completed', ({ jobId, returnvalue }) => {
      const waiting = this.#waiting.get(jobId);
      if (waiting === undefined) return;
      this.#waiting.delete(jobId);
      const { chunk, at } = waiting;
      chunk.values[at] = returnvalue as unknown as number[];
      chunk.left -= 1;
      if (chunk.left === 0) chunk.done.resolve();
    });
    events.on('failed', ({ jobId, failedReason }) =>
      this.#waiting.get(jobId)?.chunk.done.reject(new Error(failedReason)),
    );
  }

  /** Asked before the jobs are added, since the first may end before the last is there. */
  async collect(ids: readonly string[]): Promise<Chunk['values']> {
    const chunk: Chunk = { values: new Array(ids.length), left: ids.length, done: Promise.withResolvers() };
    for (const [at, id] of ids.entries()) this.#waiting.set(id, { at, chunk });
    await chunk.done.promise;
    return chunk.values;
  }
}

export const startBullmq = async (redis: RedisPeer, processes: number): Promise<BullmqPeer> => {
  const connection = { url: redis.url };
  const queue = new Queue(QUEUE, { connection });
  const events = new QueueEvents(QUEUE, { connection });
  await Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);
  const collector = new Collector(events);
  const script = new URL('./bullmq-worker.ts', import.meta.url).pathname;
  const workers: Peer[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(workers.map((worker) => worker.stop()));
    await Promise.all([events.close(), queue.close()]);
  };
  try {
    while (workers.length < processes) {
      const command = [process.execPath, script, redis.url, QUEUE, String(CONCURRENCY)];
      const reach = async (): Promise<boolean> => (await queue.getWorkersCount()) > workers.length;
      workers.push(await launchPeer('bullmq', command, { port: redis.port, reach }));
    }
  } catch (error) {
    await stop();
    throw error;
  }
  let added = 0;
  return {
    workers,
    run: async (texts, width) => {
      const ids = texts.map(() => `row-${added++}`);
      const collecting = collector.collect(ids);
      const jobs = texts.map((text, at) => ({
        name: 'row',
        data: { text, width },
        opts: { jobId: ids[at]!, removeOnComplete: true },
      }));
      const [values] = await Promise.all([collecting, queue.addBulk(jobs)]);
      return values;
    },
    stop,
  };
};
