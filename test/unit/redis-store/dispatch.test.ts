import { Queue, Worker } from 'bullmq';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { parseAddress } from '../../../shared/store/redis/address.ts';
import { BullDispatch } from '../../../shared/store/redis/bull-dispatch.ts';
import type { DispatchedBatch } from '../../../shared/store/redis/dispatch.ts';
import { Layout, versionIdOf } from '../../../shared/store/redis/layout.ts';
import type { Workshop } from '../../contract/workshop.ts';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { eventually } from '../../support/sluice-process.ts';
import { makeShop, newPrefix } from './homes.ts';
import { QueueRig, UnreliableDispatch } from './queue-rig.ts';

let server: RedisServer;
const connection = () => ({ host: '127.0.0.1', port: server.port });

const leasedIn = (shop: Workshop): Promise<number | undefined> =>
  eventually('the batch is leased', async () => (await shop.lease())[0]?.slices[0]?.callId);

const openDispatch = () => {
  const layout = new Layout(newPrefix());
  const dispatch = new BullDispatch({
    address: parseAddress(server.url),
    layout,
    name: 'test',
    replyMs: 20_000,
  });
  const keys = () => server.ask((redis) => redis.keys(`{${layout.prefix}:*`));
  const remove = async (pattern: RegExp): Promise<void> => {
    const found = (await keys()).filter((key) => pattern.test(key));
    if (found.length > 0) await server.ask((redis) => redis.del(...found));
  };
  return { dispatch, keys, remove };
};

/** A clock that moves by hand. */
const stopClock = (): void =>
  void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });

/** The second time that it is asked, the version is gone meanwhile. */
class LateDispatch extends UnreliableDispatch {
  asked = 0;
  between = async (): Promise<unknown> => undefined;

  override async take(versionId: number, workerId: string, max: number): Promise<readonly DispatchedBatch[]> {
    this.asked += 1;
    if (this.asked === 2) await this.between();
    return super.take(versionId, workerId, max);
  }
}

describeWithRedis('dispatch', () => {
  beforeAll(async () => {
    server = await RedisServer.start({ aof: 'no' });
  });
  afterAll(() => server.stop());
  afterEach(() => void vi.useRealTimers());

  it('writes nothing of a version that nobody asks for', async () => {
    stopClock();
    const { dispatch, keys, remove } = openDispatch();
    const [gone, other] = [versionIdOf(1, 1), versionIdOf(1, 2)];
    await dispatch.add(gone, 1, 1, null);
    const [taken] = await dispatch.take(gone, 'w', 1, 30_000);
    await dispatch.done(taken!.job);
    await remove(/./);
    await vi.advanceTimersByTimeAsync(100_000);
    await dispatch.take(other, 'w', 1, 30_000);
    expect((await keys()).filter((key) => key.includes(`:v${gone}:`))).toEqual([]);
    await dispatch.close();
  });

  it('clears away the jobs of a worker that died when their version is asked for again', async () => {
    stopClock();
    const { dispatch, remove } = openDispatch();
    const version = versionIdOf(1, 1);
    await dispatch.add(version, 1, 1, null);
    expect(await dispatch.take(version, 'dead', 1, 30_000)).toHaveLength(1);
    await remove(/:lock$/);
    // A look notes what is active, and the next one takes it back where it has no lock.
    const found: DispatchedBatch[] = [];
    for (let look = 0; look < 4; look += 1) {
      await remove(/:stalled-check$/);
      vi.advanceTimersByTime(30_000);
      found.push(...(await dispatch.take(version, 'w', 1, 30_000)));
    }
    expect(found).toMatchObject([{ batchId: 1, attempt: 1 }]);
    await dispatch.close();
  });

  it('gives a batch whose job was removed by a tool to the next worker', async () => {
    const prefix = newPrefix();
    await using shop = await makeShop(server.url, prefix);
    const bull = new Layout(prefix).bull(shop.versionId);
    const tool = new Queue(bull.name, { connection: connection(), prefix: bull.prefix });
    const id = await shop.admit(1);
    await shop.seal([id, 0, 1]);
    await tool.obliterate({ force: true });
    await tool.close();
    expect(await leasedIn(shop)).toBe(id);
  });

  it('gives a batch whose worker died before its lease to another at once, also while there is other work', async () => {
    const prefix = newPrefix();
    await using shop = await makeShop(server.url, prefix);
    const bull = new Layout(prefix).bull(shop.versionId);
    const dead = new Worker(bull.name, null, {
      connection: connection(),
      prefix: bull.prefix,
      lockDuration: 600_000,
    });
    const ids = [await shop.admit(1), await shop.admit(1)];
    await shop.seal([ids[0]!, 0, 1]);
    expect(await dead.getNextJob('dead', { block: false })).toBeDefined();
    await dead.close(true);
    const ready = shop.collect('ready');
    await eventually('it is told of', async () => ready.length > 0);
    await shop.seal([ids[1]!, 0, 1]);
    expect(await leasedIn(shop)).toBe(ids[0]);
    expect(await leasedIn(shop)).toBe(ids[1]);
  });

  it('has the lock of a batch renewed with its lease', async () => {
    const prefix = newPrefix();
    await using shop = await makeShop(server.url, prefix);
    const bull = new Layout(prefix).bull(shop.versionId);
    const { batchId, token } = await shop.run([await shop.admit(1), 0, 1]);
    const lock = `${bull.prefix}:${bull.name}:b-${batchId}-1:lock`;
    const leftMs = () => server.ask((redis) => redis.pttl(lock));
    const leased = await leftMs();
    expect(leased).toBeGreaterThan(0);
    const longer = 10 * leased;
    await shop.queue.extend({ now: shop.now, leaseMs: longer, leases: [{ batchId, token }] });
    expect(await leftMs()).toBeGreaterThan(longer - leased);
  });

  it('is asked for as many jobs as were told of, and for all that fit where that is not known', async () => {
    await using shop = await makeShop(server.url);
    const ready = shop.collect('ready');
    /** Jobs that a lease asked BullMQ for. */
    const asksOf = async (max: number): Promise<[leased: number, asked: number]> => {
      await server.ask((redis) => redis.config('RESETSTAT'));
      const { length } = await shop.lease(max);
      const stats = await server.ask((redis) => redis.info('commandstats'));
      return [length, Number(/cmdstat_rpoplpush:calls=(\d+)/.exec(stats)?.[1] ?? 0)];
    };
    const sealOne = async (): Promise<void> => void (await shop.seal([await shop.admit(1), 0, 1]));
    await shop.settled();
    await sealOne();
    expect(await asksOf(5)).toEqual([1, 5]);
    await Promise.all([sealOne(), sealOne()]);
    await shop.settled();
    expect(await asksOf(5)).toEqual([2, 2]);
    await sealOne();
    await shop.settled();
    expect(await asksOf(5)).toEqual([1, 1]);
    // What was told meanwhile is told to nobody.
    const told = ready.length;
    await server.ask((redis) => redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub'));
    await Promise.all([sealOne(), sealOne()]);
    await eventually('it listens again', async () => {
      await sealOne();
      await shop.settled();
      return ready.length > told;
    });
    const [leased] = await asksOf(9);
    expect(leased).toBeGreaterThanOrEqual(3);
  });

  it('is asked for all that fit until it gave less, where what is ready is not known', async () => {
    await using shop = await makeShop(server.url);
    for (let n = 0; n < 8; n += 1) await shop.seal([await shop.admit(1), 0, 1]);
    const other = shop.server.connect();
    other.queue.watch({ kind: 'ready' }, () => undefined);
    await other.counters();
    const { now, versionId } = shop;
    const lease = async (max: number): Promise<number> =>
      (await other.queue.lease({ now, versionId, workerId: 'w', leaseMs: 30_000, max })).length;
    expect([await lease(4), await lease(2), await lease(4), await lease(4)]).toEqual([4, 2, 2, 0]);
  });

  it('keeps what it gave when a later step of the lease fails', async () => {
    const dispatch = new LateDispatch();
    await using rig = await QueueRig.open(server.url, 'late', dispatch);
    await rig.seal(await rig.admit(1), 0, 1);
    dispatch.between = () => rig.command('DEL', 'versions');
    // The job comes twice, so that it asks again.
    const leased = await rig.lease(2);
    expect(dispatch.asked).toBe(2);
    expect(leased).toHaveLength(1);
    expect(await rig.settle(leased[0]!)).toMatchObject({ accepted: true });
  });
});
