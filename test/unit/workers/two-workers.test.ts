/** Two workers on one store share out a function's replicas, with no leader between them. */
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { plainScaling } from '../../../shared/domain/scaling.ts';
import { silentLog } from '../../../shared/runtime/log.ts';
import type { Registry } from '../../../shared/store/ports/registry.ts';
import { makeWorkers } from '../../../workers/main.ts';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { newPrefix, openRedis } from '../../support/redis-store.ts';
import { nodeSpec, withVerbs } from './rig.ts';

const LEASE_MS = 1500;
const spec = nodeSpec('export const run = ({ text }) => text;');

/** A worker process in all but name; `die` cuts it from the store, as a lost machine would be. */
const startWorker = async (url: string, prefix: string, onReport: () => void, gpus = 0) => {
  const server = await openRedis(url, prefix);
  let isDead = false;
  const workers = makeWorkers({
    server: {
      connect: () => {
        const store = server.connect();
        const report: Registry['report'] = async (query) => {
          if (isDead) return;
          await store.registry.report(query);
          onReport();
        };
        return withVerbs(store, { registry: withVerbs(store.registry, { report }) });
      },
    },
    settings: { lease: LEASE_MS, claimsMax: 5, grace: 1000 },
    log: silentLog(),
    strict: false,
    pythonDefault: null,
    machine: { gpus, memoryBytes: 2 ** 34 },
  });
  onTestFinished(async () => {
    await workers.stop();
    await server.close();
  });
  await workers.start();
  return {
    die: () => {
      isDead = true;
    },
  };
};

/** What the workers of a prefix told, for as long as the test runs. */
const observe = async (url: string, prefix: string) => {
  const observer = await openRedis(url, prefix);
  const store = observer.connect();
  const { registry } = store;
  onTestFinished(async () => {
    await store.close();
    await observer.close();
  });
  const looks = new Set<() => void>();
  const onReport = (): void => {
    for (const look of looks) look();
  };
  /** Replicas of each worker in this state, ascending, once they are as wished. */
  const until = async (wished: readonly number[], state: 'ready' | 'failed' = 'ready'): Promise<void> => {
    for (;;) {
      const { promise, resolve } = Promise.withResolvers<void>();
      looks.add(resolve);
      const reports = await registry.reports({ now: Date.now(), name: 'f' });
      const counts = reports.map((report) => report[state]).toSorted();
      if (JSON.stringify(counts) === JSON.stringify(wished)) return;
      await promise;
      looks.delete(resolve);
    }
  };
  return { registry, onReport, until };
};

let redis: RedisServer;

describeWithRedis('two workers', () => {
  beforeAll(async () => {
    redis = await RedisServer.start({ aof: 'no' });
  });
  afterAll(() => redis.stop());

  it('share a total of three as two and one, and the other takes all when one dies', async () => {
    const prefix = newPrefix();
    const { registry, onReport, until } = await observe(redis.url, prefix);
    await registry.deploy({ now: Date.now(), spec, scaling: plainScaling({ min: 3, max: 3 }) });
    const first = await startWorker(redis.url, prefix, onReport);
    await until([3]);
    await startWorker(redis.url, prefix, onReport);
    await until([1, 2]);
    first.die();
    await until([3]);
    expect((await registry.reports({ now: Date.now(), name: 'f' })).map(({ ready }) => ready)).toEqual([3]);
  });

  it('leave all to the one that can start them, and the other goes on trying with one', async () => {
    const prefix = newPrefix();
    const { registry, onReport, until } = await observe(redis.url, prefix);
    const needsDevice = nodeSpec(
      `if (process.env.CUDA_VISIBLE_DEVICES === undefined) throw new Error('no device');
       export const run = ({ text }) => text;`,
      { resources: { cpu: null, memoryBytes: null, gpu: 'any' } },
    );
    const scaling = plainScaling({ min: 4, max: 4 });
    await registry.deploy({ now: Date.now(), spec: needsDevice, scaling });
    await startWorker(redis.url, prefix, onReport);
    await startWorker(redis.url, prefix, onReport, 1);
    await until([0, 4]);
    await until([0, 1], 'failed');
    const reports = await registry.reports({ now: Date.now(), name: 'f' });
    expect(reports.find(({ ready }) => ready === 0)?.reason).toContain('no device');
  });
});
