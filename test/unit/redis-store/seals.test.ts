import { afterAll, beforeAll, expect, it } from 'vitest';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { QueueRig } from './queue-rig.ts';

let server: RedisServer;

describeWithRedis('seals of one tick', () => {
  beforeAll(async () => {
    server = await RedisServer.start({ aof: 'no' });
  });
  afterAll(() => server.stop());

  it('are a batch each, by one script, and what is asked behind them comes behind them', async () => {
    await using rig = await QueueRig.open(server.url, 'together');
    const id = await rig.admit(6);
    const before = rig.verbs;
    const sealing = [rig.seal(id, 0, 2), rig.seal(id, 2, 3), rig.seal(id, 5, 1)];
    const leased = await rig.lease(9);
    expect(rig.verbs - before).toBe(2);
    const sealed = await Promise.all(sealing);
    expect(leased.map(({ batchId }) => batchId)).toEqual(sealed.map(({ batchId }) => batchId));
    expect(leased.map(({ slices }) => slices)).toEqual([
      [{ callId: id, from: 0, count: 2 }],
      [{ callId: id, from: 2, count: 3 }],
      [{ callId: id, from: 5, count: 1 }],
    ]);
    for (const batch of leased) expect(await rig.settle(batch)).toMatchObject({ accepted: true });
  });

  it('are refused slice by slice, each for itself', async () => {
    await using rig = await QueueRig.open(server.url, 'refused');
    const id = await rig.admit(4);
    const [first, repeat, second, beyond] = await Promise.all([
      rig.seal(id, 0, 2),
      rig.seal(id, 0, 2),
      rig.seal(id, 2, 2),
      rig.seal(id, 4, 1),
    ]);
    expect(first).toMatchObject({ fenced: false, refused: [] });
    expect(repeat).toMatchObject({ batchId: null, refused: [{ callId: id, from: 0, count: 2 }] });
    expect(second).toMatchObject({ refused: [] });
    expect(beyond).toMatchObject({ batchId: null, refused: [{ callId: id, from: 4, count: 1 }] });
    expect(second!.batchId).toBe(first!.batchId! + 1);
    expect(await rig.lease(9)).toHaveLength(2);
  });

  it('with another fence seal nothing, and take nothing from those with the current one', async () => {
    await using rig = await QueueRig.open(server.url, 'fenced');
    const id = await rig.admit(2);
    const [old, current] = await Promise.all([rig.seal(id, 0, 1, 'old'), rig.seal(id, 0, 1)]);
    expect(old).toMatchObject({ fenced: true, batchId: null, refused: [] });
    expect(current).toMatchObject({ fenced: false, batchId: expect.any(Number), refused: [] });
  });

  it('of many slices go in several scripts', async () => {
    await using rig = await QueueRig.open(server.url, 'many');
    const ids = await Promise.all(Array.from({ length: 3 }, () => rig.admit(1500)));
    const before = rig.verbs;
    const sealing = ids.map((callId) =>
      rig.queue.seal({
        now: rig.now,
        versionId: rig.versionId,
        slices: Array.from({ length: 1500 }, (_, from) => ({ callId, from, count: 1 })),
        reason: 'size',
        fence: 'fence',
      }),
    );
    const sealed = await Promise.all(sealing);
    expect(rig.verbs - before).toBe(3);
    expect(sealed.map(({ fenced }) => fenced)).toEqual([false, false, false]);
    expect(sealed.flatMap(({ refused }) => refused)).toEqual([]);
  });

  it('of a version that is gone are all refused', async () => {
    await using rig = await QueueRig.open(server.url, 'gone');
    const id = await rig.admit(2);
    await rig.command('DEL', 'versions');
    const asked = await Promise.allSettled([rig.seal(id, 0, 1), rig.seal(id, 1, 1)]);
    expect(asked.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  });
});
