/** What servers hold of their machine. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { Redis } from 'ioredis';
import type { Home, SluiceServer } from '../../support/sluice-process.ts';

export type Footprint = {
  /** Of the servers' own processes. */
  readonly memoryBytes: number;
  readonly threads: number;
  readonly descriptors: number;
  /** The data directory, or what Redis has in use. */
  readonly storeBytes: number;
};

const statusOf = (pid: number, field: string): number => {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`^${field}:\\s*(\\d+)`, 'm').exec(status)?.[1]);
};

const memoryOf = (pid: number): number => 1024 * statusOf(pid, 'VmRSS');
const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);

/** A file may go while it is looked at. */
const directoryBytes = (directory: string): number =>
  sum(
    readdirSync(directory, { recursive: true, encoding: 'utf8' }).map((name) => {
      const found = statSync(path.join(directory, name), { throwIfNoEntry: false });
      return found?.isFile() ? found.size : 0;
    }),
  );

const redisBytes = async (url: string): Promise<number> => {
  const redis = new Redis(url);
  const info = await redis.info('memory').finally(() => redis.disconnect());
  return Number(/^used_memory:(\d+)/m.exec(info)?.[1]);
};

const storeBytesOf = async ({ args: [, place] }: Home): Promise<number> =>
  place!.startsWith('redis:') ? redisBytes(place!) : directoryBytes(place!);

export const memoryBytesOf = (servers: readonly SluiceServer[]): number =>
  sum(servers.map(({ pid }) => memoryOf(pid)));

export const footprintOf = async (home: Home, servers: readonly SluiceServer[]): Promise<Footprint> => ({
  memoryBytes: memoryBytesOf(servers),
  threads: sum(servers.map(({ pid }) => statusOf(pid, 'Threads'))),
  descriptors: sum(servers.map(({ pid }) => readdirSync(`/proc/${pid}/fd`).length)),
  storeBytes: await storeBytesOf(home),
});
