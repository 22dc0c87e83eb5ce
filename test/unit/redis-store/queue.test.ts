import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import type { LeasedBatch } from '../../../shared/store/ports/queue.ts';
import { describeWithRedis, RedisCluster, RedisServer } from '../../support/redis-servers.ts';
import { eventually } from '../../support/sluice-process.ts';
import { FENCE, FN, GENERATION, QueueRig, UnreliableDispatch } from './queue-rig.ts';

let server: RedisServer;
let prefixes = 0;
const open = (dispatch = new UnreliableDispatch()): Promise<QueueRig> => {
  prefixes += 1;
  return QueueRig.open(server.url, `t${prefixes}`, dispatch);
};

describeWithRedis('the queue on Redis', () => {
  beforeAll(async () => {
    server = await RedisServer.start({ aof: 'no' });
  });
  afterAll(() => server.stop());

  it('refuses the seal of an owner that was replaced, and changes nothing', async () => {
    await using rig = await open();
    const id = await rig.admit(4);
    expect(await rig.seal(id, 0, 4, 'old')).toMatchObject({ fenced: true, batchId: null, refused: [] });
    await rig.command('DEL', 'owner');
    expect(await rig.seal(id, 0, 4)).toMatchObject({ fenced: true, batchId: null });
    const { calls } = await rig.queue.open({ versionId: null, after: 0, limit: 10 });
    expect(calls).toMatchObject([{ callId: id, from: 0, rows: 4 }]);
  });

  it('gives each row one result when every delivery is doubled and out of order', async () => {
    await using rig = await open();
    const id = await rig.admit(20);
    for (let from = 0; from < 20; from += 2) await rig.seal(id, from, 2);
    const leased = [...(await rig.lease(4)), ...(await rig.lease(100))];
    expect(leased).toHaveLength(10);
    expect(await rig.lease(100)).toEqual([]);
    for (const batch of leased.toReversed()) {
      expect(await rig.settle(batch)).toMatchObject({ accepted: true });
      expect(await rig.settle(batch)).toMatchObject({ stale: true });
    }
    const page = await rig.queue.result({ callId: id, from: 0, bytesMax: 2 ** 20 });
    expect(page).toMatchObject({ call: { status: 'completed', counts: { ok: 20 } }, next: null });
    const parts = page === undefined || page === 'gone' ? [] : page.parts;
    expect(parts.map(({ from, count }) => [from, count])).toEqual(
      Array.from({ length: 10 }, (_, index) => [index * 2, 2]),
    );
  });

  it('gives a batch whose job was never made to the next worker that asks, and makes it later', async () => {
    const dispatch = new UnreliableDispatch();
    await using rig = await open(dispatch);
    dispatch.isBroken = true;
    const ids = [await rig.admit(1), await rig.admit(1)];
    for (const id of ids) await rig.seal(id, 0, 1);
    expect(await rig.command<number>('ZCARD', 'outbox')).toBe(2);
    const [first] = await rig.lease(1);
    expect(first?.slices).toMatchObject([{ callId: ids[0] }]);
    dispatch.isBroken = false;
    // The first look notes what there is, the second finds what is still without a job.
    await rig.expire();
    await rig.expire();
    expect(await rig.command<number>('ZCARD', 'outbox')).toBe(0);
    expect(await dispatch.take(rig.versionId, 'w', 10)).toMatchObject([{}, {}]);
    expect(await rig.settle(first!)).toMatchObject({ accepted: true });
  });

  it('says that the data is lost when it is', async () => {
    await using rig = await open();
    const id = await rig.admit(1);
    await rig.seal(id, 0, 1);
    const [batch] = await rig.lease();
    await rig.command('SET', 'generation', 'another');
    const lost = expect.objectContaining({ code: 'data_lost' });
    await expect(rig.admit(1)).rejects.toEqual(lost);
    await expect(rig.seal(id, 0, 1)).rejects.toEqual(lost);
    await expect(rig.settle(batch!)).rejects.toEqual(lost);
    await expect(rig.queue.call(id)).rejects.toEqual(lost);
    await expect(rig.queue.result({ callId: id, from: 0, bytesMax: 1 })).rejects.toEqual(lost);
  });

  it('refuses admissions at maxmemory, and still seals, leases, settles and reads', async () => {
    await using full = await RedisServer.start({ aof: 'no' });
    await using rig = await QueueRig.open(full.url, 'full');
    const id = await rig.admit(2, 2000);
    await full.ask((redis) => redis.config('SET', 'maxmemory', '1mb'));
    await expect(rig.admit(1)).rejects.toMatchObject({ code: 'memory_full' });
    await rig.seal(id, 0, 2);
    const [batch] = await rig.lease();
    expect(batch?.calls[0]?.payload).toMatchObject({ kind: 'arrow', bytes: { byteLength: 2000 } });
    expect(await rig.settle(batch!, 100_000)).toMatchObject({ accepted: true });
    expect(await rig.queue.call(id)).toMatchObject({ status: 'completed' });
    await rig.passRetention();
    expect(await rig.queue.call(id)).toBe('gone');
    await full.ask((redis) => redis.config('SET', 'maxmemory', '0'));
    await expect(rig.admit(1)).resolves.toBeGreaterThan(id);
  });

  it('sets large payloads and outputs beside the script, and leaves none there', async () => {
    await using rig = await open();
    const large = 100_000;
    const asides = async () => (await rig.keys()).filter((key) => key.startsWith('aside'));
    const ids = await Promise.all([rig.admit(1, large), rig.admit(1, 60), rig.admit(1, large, 'k')]);
    for (const n of [1, 3]) expect(await rig.command<number>('PTTL', `payload:${n}`)).toBe(-1);
    // One that is attached, one of no rows, and one that is refused.
    expect(await rig.admit(1, large, 'k')).toBe(ids[2]);
    await rig.admit(0, large);
    await rig.command('HSET', 'function', 'removed', 1);
    await expect(rig.admit(1, large)).rejects.toMatchObject({ code: 'function_not_found' });
    await rig.command('HDEL', 'function', 'removed');
    expect(await asides()).toEqual([]);
    expect(payloadBytes(await leaseSealed(rig, ids))).toEqual([60, large, large]);
    const [batch] = await leaseSealed(rig, [await rig.admit(1)]);
    await rig.command('SET', 'generation', 'another');
    await expect(rig.admit(1, large)).rejects.toMatchObject({ code: 'data_lost' });
    await expect(rig.settle(batch!, large)).rejects.toMatchObject({ code: 'data_lost' });
    await eventually('what was set for it is gone', async () => (await asides()).length === 0);
  });

  it('passes a payload along with the script when what was set beside it is gone', async () => {
    await using rig = await open();
    const ask = rig.link.command.bind(rig.link);
    let refused = 0;
    rig.link.command = <T>(
      name: string,
      ...args: Parameters<typeof ask> extends [string, ...infer A] ? A : []
    ) => {
      if (name !== 'SET') return ask<T>(name, ...args);
      refused += 1;
      return Promise.reject(new Error('OOM'));
    };
    const [small, large] = await Promise.all([rig.admit(1), rig.admit(1, 100_000)]);
    expect(refused).toBe(1);
    for (const id of [small, large]) await rig.seal(id, 0, 1);
    expect(payloadBytes(await rig.lease(2))).toEqual([60, 100_000]);
  });

  it('keeps the many parts of a call in row order, and pages through them', async () => {
    await using rig = await open();
    const id = await rig.admit(30, 3000);
    for (let from = 0; from < 30; from += 2) await rig.seal(id, from, 2);
    const leased = await rig.lease(15);
    const batches = leased.toSorted((a, b) => a.slices[0]!.from - b.slices[0]!.from);
    const order = [7, 0, 14, 3, 9, 1, 12, 5, 2, 13, 4, 11];
    for (const index of order) await rig.settle(batches[index]!, 1000);
    const pages: string[][] = [];
    for (let from: number | null = 0; from !== null; ) {
      const page = await rig.queue.result({ callId: id, from, bytesMax: 4000 });
      if (page === undefined || page === 'gone') throw new Error('the call is not there');
      pages.push(page.parts.map((part) => `${part.state} ${part.from}+${part.count}`));
      from = page.next;
    }
    const expected = Array.from({ length: 15 }, (_, index) =>
      order.includes(index) ? `ok ${index * 2}+2` : `pending ${index * 2}+2`,
    );
    expect(pages.flat()).toEqual(expected);
    expect(pages.length).toBeGreaterThan(2);
  });

  it('leaves nothing of a call behind its retention, and gives each of its keys an end before', async () => {
    await using rig = await open();
    await rig.settle(await leaseOf(rig, await rig.admit(1)));
    await rig.passRetention();
    const empty = await rig.keys();
    const large = await rig.admit(12, 5000, 'k');
    const small = await rig.admit(1);
    for (let from = 0; from < 12; from += 2) await rig.seal(large, from, 2);
    const batches = await rig.lease(6);
    // One is large enough to lie beside its record.
    for (const [index, batch] of batches.entries()) await rig.settle(batch, index === 3 ? 100_000 : 64);
    expect(await rig.settle(batches[3]!, 100_000)).toMatchObject({ stale: true });
    const own = (await rig.keys()).filter((key) =>
      /^(aside|bytes|calls|output|parts|payload|idempotency):/.test(key),
    );
    expect(own.map((key) => key.split(':')[0])).toEqual([
      'bytes',
      'calls',
      'idempotency',
      ...Array(6).fill('output'),
      'parts',
    ]);
    const ends = async (): Promise<string[]> => {
      const times = await Promise.all(own.map((key) => rig.command<number>('PTTL', key)));
      return own.filter((_, index) => times[index]! > 0);
    };
    // The bucket holds a call that waits.
    expect(await ends()).toEqual(own.filter((key) => !key.startsWith('calls')));
    await rig.settle(await leaseOf(rig, small));
    expect(await ends()).toEqual(own);
    const later = await rig.admit(1);
    expect(await ends()).toEqual(own.filter((key) => !key.startsWith('calls')));
    await rig.queue.cancel({ now: rig.now, callId: later });
    await rig.passRetention();
    expect(await rig.keys()).toEqual(empty);
  });

  it('purges calls whose batches split meanwhile', async () => {
    await using rig = await open();
    const ids: number[] = [];
    for (let n = 0; n < 6; n += 1) {
      ids.push(await rig.admit(2));
      await rig.seal(ids[n]!, 0, 2);
    }
    const leased = [...(await rig.lease(6))];
    expect(leased).toHaveLength(6);
    const kept = await rig.admit(2);
    const run = rig.link.run.bind(rig.link);
    vi.spyOn(rig.link, 'run').mockImplementation((async (script: string, ...rest: [string[], string[]]) => {
      if (script === 'cancel') for (const batch of leased.splice(-2)) await rig.split(batch);
      return run(script, ...rest);
    }) as typeof rig.link.run);
    expect(await rig.queue.cancel({ now: rig.now, functionName: 'f' })).toEqual({ calls: 7, rows: 14 });
    for (const id of [...ids, kept]) expect(await rig.queue.call(id)).toMatchObject({ status: 'cancelled' });
  });

  it('purges none that came after it began, in as many steps as it takes', async () => {
    await using rig = await open();
    const ids = await Promise.all(Array.from({ length: 700 }, () => rig.admit(1)));
    await rig.seal(ids[0]!, 0, 1);
    await rig.seal(ids[699]!, 0, 1);
    let late = 0;
    const run = rig.link.run.bind(rig.link);
    vi.spyOn(rig.link, 'run').mockImplementation((async (script: string, ...rest: [string[], string[]]) => {
      if (script === 'cancel' && late === 0) late = await rig.admit(1);
      return run(script, ...rest);
    }) as typeof rig.link.run);
    expect(await rig.queue.cancel({ now: rig.now, functionName: 'f' })).toEqual({ calls: 700, rows: 700 });
    expect(await rig.queue.call(late)).toMatchObject({ status: 'pending' });
  });

  it('purges a large batch without reading its calls again in each step', async () => {
    await using rig = await open();
    const ids = await Promise.all(Array.from({ length: 3000 }, () => rig.admit(1)));
    const slices = ids.toReversed().map((callId) => ({ callId, from: 0, count: 1 }));
    const { now, versionId } = rig;
    await rig.queue.seal({ now, versionId, slices, reason: 'size', fence: FENCE });
    // Neither the first nor the last one that it holds says that it is empty.
    for (const callId of [ids[0]!, ids[1500]!, ids[2999]!]) await rig.queue.cancel({ now, callId });
    expect(await rig.command('HLEN', 'batches')).toBe(1);
    await server.ask((redis) => redis.config('RESETSTAT'));
    expect(await rig.queue.cancel({ now, functionName: 'f' })).toEqual({ calls: 2997, rows: 2997 });
    const told = await server.ask((redis) => redis.info('commandstats'));
    const reads = [...told.matchAll(/cmdstat_hm?get:calls=(\d+)/g)].map(([, calls]) => Number(calls));
    expect(reads).toHaveLength(2);
    expect(reads[0]! + reads[1]!).toBeLessThan(300);
    expect(await rig.command('HLEN', 'batches')).toBe(0);
  });

  it('ends leases of one function while the node of another hangs', async () => {
    await using rig = await open();
    const other = rig.layout.key(8, 'generation');
    await rig.link.command('SET', other, GENERATION);
    vi.spyOn(rig.context.functions, 'owned').mockReturnValue([8, FN]);
    const run = rig.link.run.bind(rig.link);
    let release: () => void = () => undefined;
    const hung = new Promise<void>((resolve) => {
      release = resolve;
    });
    let looks = 0;
    vi.spyOn(rig.link, 'run').mockImplementation((async (script: string, keys: string[], args: string[]) => {
      if (keys[0] === other) {
        looks += 1;
        await hung;
      }
      return run(script, keys, args);
    }) as typeof rig.link.run);
    for (let claims = 0; claims < 2; claims += 1) {
      await leaseOf(rig, await rig.admit(1));
      rig.now += 30_000;
      expect(await rig.expire()).toMatchObject({ leases: 1 });
    }
    expect(looks).toBe(1);
    release();
    // It is looked at again as soon as its node answers.
    await vi.waitFor(async () => {
      await rig.expire();
      expect(looks).toBeGreaterThan(1);
    });
    // A look that fails is told of, after what the others found.
    await rig.link.command('SET', other, 'another');
    await leaseOf(rig, await rig.admit(1));
    rig.now += 30_000;
    expect(await rig.expire()).toMatchObject({ leases: 1 });
    await expect(rig.expire()).rejects.toMatchObject({ code: expect.any(String) });
  });

  it('takes a call through a cluster: each script keeps to one slot', async () => {
    await using cluster = await RedisCluster.start({ aof: 'no' });
    await using rig = await QueueRig.open(cluster.url, 'c', new UnreliableDispatch());
    const id = await rig.admit(12, 5000, 'k');
    for (let from = 0; from < 12; from += 2) await rig.seal(id, from, 2);
    for (const batch of await rig.lease(6)) expect(await rig.settle(batch)).toMatchObject({ accepted: true });
    const late = await rig.admit(3);
    await rig.expire();
    expect(await rig.queue.cancel({ now: rig.now, functionName: 'f' })).toEqual({ calls: 1, rows: 3 });
    const filter = { status: null, apiKeyId: null, before: null, limit: 5 };
    const { calls } = await rig.queue.list({ ...filter, functionName: null });
    expect(calls.map(({ id: found, status }) => [found, status])).toEqual([
      [late, 'cancelled'],
      [id, 'completed'],
    ]);
    await rig.passRetention();
    expect(await rig.queue.call(id)).toBe('gone');
  });
});

const leaseSealed = async (rig: QueueRig, calls: readonly number[]) => {
  for (const id of calls) await rig.seal(id, 0, 1);
  return rig.lease(calls.length);
};

const leaseOf = async (rig: QueueRig, callId: number) => {
  await rig.seal(callId, 0, 1);
  const [batch] = await rig.lease();
  return batch!;
};

/** Of batches of one call each, ascending: they come in no order. */
const payloadBytes = (batches: readonly LeasedBatch[]): number[] =>
  batches
    .map(({ calls: [call] }) => (call!.payload.kind === 'arrow' ? call!.payload.bytes.byteLength : 0))
    .toSorted((a, b) => a - b);
