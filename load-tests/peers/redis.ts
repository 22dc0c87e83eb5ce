/** A Redis server for one scenario: every write on its disk before it is answered, nothing else switched on. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { Redis } from 'ioredis';
import { freePort } from '../../test/support/free-port.ts';
import { launchPeer, type Peer, SCRATCH } from './peer.ts';

const MISSING =
  'redis-server is not installed; on Debian and Ubuntu `apt-get install redis-server` brings it, on macOS `brew install redis`.';

/** What the results say of it. */
export const REDIS_SETTINGS = 'appendonly yes, appendfsync always, no snapshots';

export type RedisPeer = Peer & {
  readonly url: string;
  readonly version: string;
  /** Bytes of its allocator that are in use: data, scripts and clients' buffers. */
  readonly usedBytes: () => Promise<number>;
};

const versionOfServer = (): string => {
  try {
    return /v=(\S+)/.exec(execFileSync('redis-server', ['--version'], { encoding: 'utf8' }))?.[1] ?? '';
  } catch {
    throw new Error(MISSING);
  }
};

const askRedis = async <T>(url: string, question: (redis: Redis) => Promise<T>): Promise<T> => {
  const redis = new Redis(url, { lazyConnect: true, retryStrategy: null });
  redis.on('error', () => undefined);
  try {
    await redis.connect();
    return await question(redis);
  } finally {
    redis.disconnect();
  }
};

export const startRedis = async (): Promise<RedisPeer> => {
  const version = versionOfServer();
  const port = await freePort();
  const directory = path.join(SCRATCH, `redis-${port}`);
  mkdirSync(directory, { recursive: true });
  const settings = {
    port,
    bind: '127.0.0.1',
    dir: directory,
    save: '',
    appendonly: 'yes',
    appendfsync: 'always',
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const url = `redis://127.0.0.1:${port}`;
  const peer = await launchPeer('redis', ['redis-server', ...flags], {
    port,
    reach: async () => (await askRedis(url, (redis) => redis.ping())) === 'PONG',
  });
  const removed = (end: () => Promise<void>) => async (): Promise<void> => {
    await end();
    rmSync(directory, { recursive: true, force: true });
  };
  return {
    ...peer,
    stop: removed(peer.stop),
    kill: removed(peer.kill),
    url,
    version,
    usedBytes: async () => {
      const memory = await askRedis(url, (redis) => redis.info('memory'));
      return Number(/used_memory:(\d+)/.exec(memory)![1]);
    },
  };
};

export type BareRedis = {
  /** What a call's rows cost there: its payload, then its outputs, each set once and read once. Answers the outputs' bytes. */
  readonly pass: (payload: Buffer, outputs: number, outputBytes: number) => Promise<number>;
  readonly stop: () => void;
};

/** No queue, no batches, nobody who works: only the bytes that a store of rows and results must set and get. */
export const connectBare = async (redis: RedisPeer): Promise<BareRedis> => {
  const connections = Array.from({ length: 3 }, () => new Redis(redis.url, { lazyConnect: true }));
  await Promise.all(connections.map((one) => one.connect()));
  const [reader, ...writers] = connections as [Redis, Redis, Redis];
  let calls = 0;
  const through = async (key: string, bytes: Buffer, turn: number): Promise<number> => {
    await writers[turn % writers.length]!.set(key, bytes);
    return (await reader.getBuffer(key))!.length;
  };
  return {
    pass: async (payload, outputs, outputBytes) => {
      calls += 1;
      const call = `bare:${calls}`;
      const output = Buffer.alloc(outputBytes, 1);
      const keys = Array.from({ length: outputs }, (_, index) => `${call}:${index}`);
      await through(call, payload, calls);
      let received = 0;
      for (const [index, key] of keys.entries()) {
        const bytes = await through(key, output, index);
        received += bytes;
      }
      await reader.unlink(call, ...keys);
      return received;
    },
    stop: () => {
      for (const one of connections) one.disconnect();
    },
  };
};
