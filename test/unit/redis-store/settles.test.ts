import { afterAll, beforeAll, expect, it } from 'vitest';
import { BugError } from '../../../shared/errors/sluice-error.ts';
import type { LeasedBatch } from '../../../shared/store/ports/queue.ts';
import { serialOfId } from '../../../shared/store/redis/layout.ts';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { FENCE, QueueRig, UnreliableDispatch } from './queue-rig.ts';

let server: RedisServer;

const ASIDE_BYTES = 32 * 1024;

const leaseRows = async (rig: QueueRig, callId: number, rows: number): Promise<readonly LeasedBatch[]> => {
  await Promise.all(Array.from({ length: rows }, (_, from) => rig.seal(callId, from, 1)));
  return rig.lease(rows);
};

const resultOf = async (rig: QueueRig, callId: number) => {
  const page = await rig.queue.result({ callId, from: 0, bytesMax: 2 ** 30 });
  if (page === undefined || page === 'gone') throw new Error('there is no result');
  return page;
};

describeWithRedis('settles of one tick', () => {
  beforeAll(async () => {
    server = await RedisServer.start({ aof: 'no' });
  });
  afterAll(() => server.stop());

  it('are committed each with its own output, by one script, small ones and such as lie beside it', async () => {
    await using rig = await QueueRig.open(server.url, 'together');
    const id = await rig.admit(6);
    const batches = await leaseRows(rig, id, 6);
    const before = rig.verbs;
    const settling = batches.map((batch, index) => rig.settle(batch, index % 2 === 0 ? 64 : ASIDE_BYTES));
    for (const answer of await Promise.all(settling))
      expect(answer).toEqual({ accepted: true, stale: false });
    expect(rig.verbs - before).toBe(1);
    const { call, parts } = await resultOf(rig, id);
    expect(call).toMatchObject({ status: 'completed', counts: { ok: 6 } });
    const outputs = parts.map(
      (part) => part.state === 'ok' && [part.from, part.output.bytes.length, part.output.bytes[0]],
    );
    expect(outputs).toEqual(
      batches.map(({ batchId }, index) => [index, index % 2 === 0 ? 64 : ASIDE_BYTES, batchId % 251]),
    );
    expect((await rig.keys()).filter((key) => key.startsWith('aside'))).toEqual([]);
  });

  it('are answered each for itself: one that is stale, and one that leaves rows out', async () => {
    await using rig = await QueueRig.open(server.url, 'own');
    const [id, other] = [await rig.admit(4), await rig.admit(2)];
    const [first, second, third, fourth] = await leaseRows(rig, id, 4);
    const short = { ...fourth!, slices: [{ callId: other, from: 0, count: 1 }] };
    const [a, stale, repeat, b, wrong] = await Promise.allSettled([
      rig.settle(first!, ASIDE_BYTES),
      rig.settle({ ...second!, token: 'another' }, ASIDE_BYTES),
      rig.settle(first!, ASIDE_BYTES),
      rig.settle(third!),
      rig.settle(short, ASIDE_BYTES),
    ]);
    for (const one of [a, b]) expect(one).toMatchObject({ value: { accepted: true, stale: false } });
    for (const one of [stale, repeat]) expect(one).toMatchObject({ value: { accepted: false, stale: true } });
    expect(wrong).toMatchObject({ reason: expect.any(BugError) });
    const { call } = await resultOf(rig, id);
    expect(call).toMatchObject({ status: 'running', counts: { ok: 2 } });
    expect((await rig.keys()).filter((key) => key.startsWith('aside'))).toEqual([]);
    for (const batch of [second!, fourth!]) expect(await rig.settle(batch)).toMatchObject({ accepted: true });
    expect((await resultOf(rig, id)).call).toMatchObject({ status: 'completed', counts: { ok: 4 } });
  });

  it('go before what is asked behind them', async () => {
    await using rig = await QueueRig.open(server.url, 'before');
    const id = await rig.admit(3);
    const batches = await leaseRows(rig, id, 3);
    const settling = batches.map((batch) => rig.settle(batch));
    expect(await rig.queue.call(id)).toMatchObject({ status: 'completed' });
    await Promise.all(settling);
  });

  it('of many outcomes, or of many bytes, go in several scripts', async () => {
    await using rig = await QueueRig.open(server.url, 'many');
    for (const { rows, bytes, scripts } of [
      { rows: 501, bytes: 64, scripts: 2 },
      { rows: 3, bytes: 2 ** 19, scripts: 2 },
      { rows: 3, bytes: 2 ** 21, scripts: 3 },
    ]) {
      const id = await rig.admit(rows);
      const batches = await leaseRows(rig, id, rows);
      const before = rig.verbs;
      for (const answer of await Promise.all(batches.map((batch) => rig.settle(batch, bytes))))
        expect(answer.accepted).toBe(true);
      expect(rig.verbs - before).toBe(scripts);
      expect(await rig.queue.call(id)).toMatchObject({ status: 'completed', counts: { ok: rows } });
    }
  });

  it('are each told of, with their outputs', async () => {
    await using rig = await QueueRig.open(server.url, 'told');
    const id = await rig.admit(3);
    const batches = await leaseRows(rig, id, 3);
    const told: string[] = [];
    const close = await rig.link.subscriber.add(rig.layout.channel(7, 'calls'), (text) => told.push(text));
    await Promise.all(batches.map((batch) => rig.settle(batch, ASIDE_BYTES)));
    await rig.link.catchUp();
    expect(told).toEqual([
      `+ @1:${ASIDE_BYTES} ${id}`,
      `+ @2:${ASIDE_BYTES} ${id}`,
      `@3:${ASIDE_BYTES} ${id}`,
    ]);
    close();
  });

  it('are written before anything is told, where the server refuses its user a message', async () => {
    await using admin = await QueueRig.open(server.url, 'mute');
    const setUser = (...rules: string[]) => admin.link.command('ACL', 'SETUSER', 'mute', ...rules);
    await setUser('on', '>s', '~*', '&*', '+@all');
    await using rig = await QueueRig.open(server.url.replace('redis://', 'redis://mute:s@'), 'mute');
    const id = await rig.admit(3);
    const batches = await leaseRows(rig, id, 3);
    await setUser('resetchannels');
    const asked = await Promise.allSettled(batches.map((batch) => rig.settle(batch)));
    expect(asked.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    expect(await admin.queue.call(id)).toMatchObject({ status: 'completed', counts: { ok: 3 } });
  });

  it('do not suffer from one among them that fails by itself', async () => {
    await using rig = await QueueRig.open(server.url, 'alone');
    const [one, two] = [await rig.admit(1), await rig.admit(1)];
    const [before] = await leaseRows(rig, one, 1);
    const [broken] = await leaseRows(rig, two, 1);
    await rig.command('SET', `output:${serialOfId(broken!.batchId)}`, 'of another kind');
    const [settled, failed] = await Promise.allSettled([rig.settle(before!), rig.settle(broken!)]);
    expect(settled).toMatchObject({ value: { accepted: true } });
    expect(failed).toMatchObject({ reason: { message: expect.stringMatching(/WRONGTYPE/) } });
    expect(await rig.queue.call(one)).toMatchObject({ status: 'completed' });
  });

  it('whose rows go on count with all their slices', async () => {
    await using rig = await QueueRig.open(server.url, 'slices');
    const ids = await Promise.all(Array.from({ length: 300 }, () => rig.admit(2)));
    const { now, versionId } = rig;
    for (const from of [0, 1]) {
      const slices = ids.map((callId) => ({ callId, from, count: 1 }));
      await rig.queue.seal({ now, versionId, slices, reason: 'size', fence: FENCE });
    }
    const batches = await rig.lease(2);
    const before = rig.verbs;
    const settling = batches.map(({ batchId, token, slices }) => {
      const again = { slices, attempts: 1, claims: 0, mode: 'retry', notBefore: 0 } as const;
      const run = { outcomes: [], output: null, startedAt: now, handlerMs: 1 };
      return rig.queue.settle({ now, batchId, token, continuations: [again], ...run });
    });
    for (const answer of await Promise.all(settling)) expect(answer.accepted).toBe(true);
    expect(rig.verbs - before).toBe(2);
  });

  it('that need no job are answered before those that do have theirs', async () => {
    const dispatch = new UnreliableDispatch();
    await using rig = await QueueRig.open(server.url, 'jobs', dispatch);
    const id = await rig.admit(3);
    await Promise.all([rig.seal(id, 0, 1), rig.seal(id, 1, 2)]);
    const batches = await rig.lease(2);
    const ok = batches.find(({ slices }) => slices[0]!.count === 1);
    const split = batches.find(({ slices }) => slices[0]!.count === 2);
    const added = Promise.withResolvers<void>();
    dispatch.add = () => added.promise;
    const { batchId, token, slices } = split!;
    const goesOn = { slices, attempts: 1, claims: 0, mode: 'retry', notBefore: 0 } as const;
    const run = { outcomes: [], output: null, startedAt: rig.now, handlerMs: 1 };
    const again = rig.queue.settle({ now: rig.now, batchId, token, continuations: [goesOn], ...run });
    expect(await rig.settle(ok!)).toMatchObject({ accepted: true });
    added.resolve();
    expect(await again).toMatchObject({ accepted: true });
  });
});
