import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { batchIdOf, callIdOf, functionOfId } from '../../../shared/store/redis/layout.ts';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { eventually } from '../../support/sluice-process.ts';
import { QueueRig } from './queue-rig.ts';

let server: RedisServer;

/** One row's life; the payload's length names it. */
const live = async (rig: QueueRig, bytes: number) => {
  const id = await rig.admit(1, bytes);
  await rig.seal(id, 0, 1);
  const [batch] = await rig.lease();
  await rig.settle(batch!);
  const page = await rig.queue.result({ callId: id, from: 0, bytesMax: 2 ** 20 });
  const [part] = page === undefined || page === 'gone' ? [] : page.parts;
  return { id, batch: batch!, output: part?.state === 'ok' ? part.output : undefined };
};

describeWithRedis('the numbers of calls and batches', () => {
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server.stop());

  it('go on beyond 32 bits in the same function', async () => {
    await using rig = await QueueRig.open(server.url, 'wide');
    const first = await rig.admit(1);
    const fn = functionOfId(first);
    await rig.queue.cancel({ now: rig.now, callId: first });
    // The sweep has long passed what lies below.
    await rig.command('HSET', 'queue', 'call', 2 ** 32 - 1, 'batch', 2 ** 32 - 1, 'low', 2 ** 25 - 1);
    const { id, batch, output } = await live(rig, 3000);
    expect(id).toBe(callIdOf(fn, 2 ** 32));
    expect(batch).toMatchObject({
      batchId: batchIdOf(fn, 2 ** 32),
      slices: [{ callId: id, from: 0, count: 1 }],
    });
    expect(output?.batchId).toBe(batch.batchId);
    expect(await rig.queue.call(id)).toMatchObject({ id, status: 'completed' });
    const keyed = await rig.admit(1, 60, 'k');
    expect(await rig.admit(1, 60, 'k')).toBe(keyed);
    expect(await rig.queue.cancel({ now: rig.now, functionName: 'f' })).toEqual({ calls: 1, rows: 1 });
  });

  it('are not given again by a server that lost the last of them', async () => {
    await using rig = await QueueRig.open(server.url, 'lost');
    const kept = await live(rig, 1000);
    const earlier = mkdtempSync(path.join(os.tmpdir(), 'sluice-earlier-'));
    cpSync(server.directory, earlier, { recursive: true });
    const lost = await live(rig, 2000);
    const told = { code: 'data_lost', message: expect.stringMatching(/lost in a failover.*submit it again/) };
    const expectLost = async (): Promise<void> => {
      await expect(rig.queue.call(lost.id)).rejects.toMatchObject(told);
      await expect(rig.queue.result({ callId: lost.id, from: 0, bytesMax: 1 })).rejects.toMatchObject(told);
      expect(await rig.queue.cancel({ now: rig.now, callId: lost.id })).toEqual({ calls: 0, rows: 0 });
    };
    expect(await rig.queue.call(lost.id + 1)).toBeUndefined();
    await server.kill();
    rmSync(server.directory, { recursive: true });
    cpSync(earlier, server.directory, { recursive: true });
    rmSync(earlier, { recursive: true });
    await server.restart();
    await eventually('the server answers', () => rig.queue.call(kept.id));
    // No number was given since, and all the same.
    await expectLost();
    expect(await rig.queue.call(lost.id + 200_000)).toBeUndefined();
    const next = await live(rig, 3000);
    expect(next.id).not.toBe(lost.id);
    expect(next.batch.batchId).not.toBe(lost.batch.batchId);
    // What was read of the lost ones is remembered, and must not be taken for those that came after them.
    expect(next.batch.calls[0]?.payload).toMatchObject({ bytes: { byteLength: 3000 } });
    expect(next.output?.bytes[0]).toBe(next.batch.batchId % 251);
    await expectLost();
    expect(await rig.queue.call(next.id + 1)).toBeUndefined();
    const filter = { functionName: 'f', status: null, apiKeyId: null, before: null, limit: 9 };
    expect((await rig.queue.list(filter)).calls.map(({ id }) => id)).toEqual([next.id, kept.id]);
    // Those that went by their retention did not get lost, and all are forgotten together.
    await rig.passRetention();
    expect(await rig.queue.call(kept.id)).toBe('gone');
    await expectLost();
    await rig.passRetention();
    await rig.passRetention();
    expect(await rig.queue.call(kept.id)).toBeUndefined();
    expect(await rig.queue.call(lost.id)).toBeUndefined();
  });

  it('that servers lost are remembered of the last 64 lives', async () => {
    await using rig = await QueueRig.open(server.url, 'lives');
    const ids = [await rig.admit(1)];
    for (let life = 0; life < 66; life += 1) {
      await rig.command('HSET', 'queue', 'run', `life-${life}`);
      ids.push(await rig.admit(1));
    }
    const answers = await Promise.all(
      ids.slice(0, -1).map((id) => rig.queue.call(id + 1).catch(({ code }) => code)),
    );
    expect(answers).toEqual([...Array(2).fill('gone'), ...Array(64).fill('data_lost')]);
    for (const id of ids) expect(await rig.queue.call(id)).toMatchObject({ id });
  });
});
