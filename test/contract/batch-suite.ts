import { expect, it } from 'vitest';
import type { StoreFactory } from './factory.ts';
import { BOOM, CLAIMS_MAX, LEASE_MS, okOutcomes, states, Workshop } from './workshop.ts';

export const batchSuite = (factory: StoreFactory): void => {
  it('takes a call from admission to its result', async () => {
    await using shop = await Workshop.make(factory);
    const [a, b] = [await shop.admit(2, { metadata: { k: 'v' } }), await shop.admit(3)];
    expect(await shop.load()).toMatchObject({
      waitingRows: 5,
      waitingCalls: 2,
      sealedRows: 0,
      oldestAt: shop.now,
      oldestVersionId: shop.versionId,
    });
    const sealed = await shop.seal([a, 0, 2], [b, 0, 1]);
    expect(sealed).toMatchObject({ batchId: expect.any(Number), refused: [] });
    expect(await shop.load()).toMatchObject({ waitingRows: 2, waitingCalls: 1, sealedRows: 3 });
    const batch = await shop.leaseOne();
    expect(batch).toMatchObject({
      batchId: sealed.batchId,
      versionId: shop.versionId,
      attempts: 0,
      claims: 0,
      mode: 'fresh',
      reason: 'size',
      leaseUntil: shop.now + LEASE_MS,
      slices: [
        { callId: a, from: 0, count: 2 },
        { callId: b, from: 0, count: 1 },
      ],
    });
    expect(batch.calls.map(({ callId, rows, metadata }) => [callId, rows, metadata])).toEqual([
      [a, 2, { k: 'v' }],
      [b, 3, {}],
    ]);
    expect(await shop.call(a)).toMatchObject({ status: 'running' });
    shop.now += 5;
    expect(await shop.settleOk(batch)).toEqual({ accepted: true, stale: false });
    expect(await shop.call(a)).toMatchObject({
      status: 'completed',
      counts: { ok: 2, failed: 0, cancelled: 0, expired: 0 },
      finishedAt: shop.now,
      startedAt: shop.now,
      queueMs: 5,
      handlerMs: 2,
      expiresAt: shop.now + 3_600_000,
    });
    const { parts, next } = await shop.result(a);
    expect(parts).toEqual([
      {
        state: 'ok',
        from: 0,
        count: 2,
        outputRow: 0,
        output: { batchId: batch.batchId, bytes: expect.anything() },
      },
    ]);
    expect(next).toBeNull();
    expect(await shop.call(b)).toMatchObject({ status: 'running', counts: { ok: 1 } });
    expect(states((await shop.result(b)).parts)).toEqual(['ok 0+1', 'pending 1+2']);
    await shop.settleOk(await shop.run([b, 1, 2]));
    expect(states((await shop.result(b)).parts)).toEqual(['ok 0+1', 'ok 1+2']);
    expect(await shop.load()).toMatchObject({
      waitingRows: 0,
      waitingCalls: 0,
      sealedRows: 0,
      oldestAt: null,
      oldestVersionId: null,
    });
  });

  it('seals only the head of what waits', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(5);
    const { batchId, refused } = await shop.seal([id, 1, 2], [id, 0, 6], [id, 0, 0], [99, 0, 1]);
    expect(batchId).toBeNull();
    expect(refused).toHaveLength(4);
    const twice = await shop.seal([id, 0, 2], [id, 2, 2], [id, 0, 2]);
    expect(twice.batchId).not.toBeNull();
    expect(twice.refused).toEqual([{ callId: id, from: 0, count: 2 }]);
    expect((await shop.leaseOne()).slices).toHaveLength(2);
    expect((await shop.seal([id, 4, 1])).batchId).not.toBeNull();
    expect((await shop.seal([id, 5, 1])).batchId).toBeNull();
  });

  it('refuses slices of another version, of cancelled calls and past a deadline', async () => {
    await using shop = await Workshop.make(factory);
    const [gone, late, good] = [
      await shop.admit(1),
      await shop.admit(1, { deadlineAt: shop.now + 5 }),
      await shop.admit(1),
    ];
    await shop.queue.cancel({ now: shop.now, callId: gone });
    shop.now += 5;
    const { batchId, refused } = await shop.seal([gone, 0, 1], [late, 0, 1], [good, 0, 1]);
    expect(batchId).not.toBeNull();
    expect(refused.map(({ callId }) => callId)).toEqual([gone, late]);
    const other = { now: shop.now, versionId: 99, slices: [], reason: 'size', fence: shop.fence } as const;
    await expect(shop.queue.seal(other)).rejects.toMatchObject({ code: 'function_not_found' });
  });

  it('gives a batch to one worker only, oldest first', async () => {
    await using shop = await Workshop.make(factory);
    const sealed: (number | null)[] = [];
    for (let index = 0; index < 4; index += 1)
      sealed.push((await shop.seal([await shop.admit(1), 0, 1])).batchId);
    expect((await shop.lease(1, 'a')).map(({ batchId }) => batchId)).toEqual(sealed.slice(0, 1));
    const answers = await Promise.all([shop.lease(2, 'a'), shop.lease(2, 'b'), shop.lease(2, 'c')]);
    const given = answers.map((batches) => batches.map(({ batchId }) => batchId));
    for (const batches of given) expect(batches).toEqual(batches.toSorted((one, other) => one - other));
    expect(given.flat().toSorted((one, other) => one - other)).toEqual(sealed.slice(1));
    expect(new Set(answers.flat().map(({ token }) => token)).size).toBe(3);
  });

  it('seals nothing of a function that is paused', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(1);
    const pause = (paused: boolean) =>
      shop.store.registry.update({ now: shop.now, name: 'f', update: { paused } });
    await pause(true);
    expect(await shop.seal([id, 0, 1])).toMatchObject({
      batchId: null,
      refused: [{ callId: id, from: 0, count: 1 }],
    });
    await pause(false);
    expect((await shop.seal([id, 0, 1])).batchId).not.toBeNull();
  });

  it('gives all that is ready in one lease, however many', async () => {
    await using shop = await Workshop.make(factory);
    await shop.offer(0, 40);
    const ids = await Promise.all(Array.from({ length: 40 }, () => shop.admit(1)));
    await Promise.all(ids.map((id) => shop.seal([id, 0, 1])));
    const leased = await shop.lease(66);
    expect(new Set(leased.map(({ slices }) => slices[0]!.callId))).toEqual(new Set(ids));
  });

  it('commits the first settle and drops every later one', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(2);
    const batch = await shop.run([id, 0, 2]);
    const first = shop.settleOk(batch);
    if (factory.capabilities.uploads) await first;
    expect(await Promise.all([first, shop.fail(batch)])).toEqual([
      { accepted: true, stale: false },
      { accepted: false, stale: true },
    ]);
    expect(await shop.fail({ ...batch, token: 'x' })).toMatchObject({ stale: true });
    expect(await shop.call(id)).toMatchObject({ status: 'completed', counts: { ok: 2, failed: 0 } });
    expect((await shop.store.counters()).settle_conflicts).toBe(2);
  });

  it('refuses as a bug what does not cover the leased rows, and stays as it was', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(4);
    const batch = await shop.run([id, 0, 4]);
    const ok = (from: number, count: number) =>
      ({ callId: id, from, count, state: 'ok', outputRow: from }) as const;
    const rest = (from: number, count: number) => shop.continuation([{ callId: id, from, count }]);
    const wrong = [
      () => shop.settle(batch, [ok(0, 3)]),
      () => shop.settle(batch, [ok(0, 5)]),
      () => shop.settle(batch, [ok(0, 4), ok(3, 1)]),
      () => shop.settle(batch, [ok(0, 2), ok(3, 1)]),
      () => shop.settle(batch, [ok(0, 4)], [rest(3, 1)]),
      () => shop.settle(batch, [], []),
      () => shop.settle(batch, [{ ...ok(0, 4), callId: id + 1 }]),
    ];
    for (const settle of wrong) await expect(settle()).rejects.toThrow(/bug/);
    const withoutOutput = {
      now: shop.now,
      batchId: batch.batchId,
      token: batch.token,
      outcomes: [ok(0, 4)],
      output: null,
    };
    await expect(
      shop.queue.settle({ ...withoutOutput, continuations: [], startedAt: shop.now, handlerMs: 1 }),
    ).rejects.toThrow(/bug/);
    expect(await shop.settle(batch, [ok(0, 1), ok(1, 1)], [rest(2, 2)])).toMatchObject({ accepted: true });
  });

  it('settles what a failing run had answered, and keeps the rest for another run', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(5);
    const batch = await shop.run([id, 0, 5]);
    const rest = [{ callId: id, from: 2, count: 3 }];
    await shop.settle(batch, okOutcomes([{ callId: id, from: 0, count: 2 }]), [
      shop.continuation(rest, { attempts: 1 }),
    ]);
    expect(await shop.call(id)).toMatchObject({ status: 'running', counts: { ok: 2, failed: 0 } });
    const again = await shop.leaseOne();
    expect(again).toMatchObject({ batchId: batch.batchId, attempts: 1, mode: 'retry', slices: rest });
    // Two outputs of one batch are told apart.
    const [first] = (await shop.result(id)).parts;
    await shop.settle(again, okOutcomes(rest), [], 200);
    for (const reopen of [false, true]) {
      if (reopen) await shop.reopen();
      expect(await shop.call(id)).toMatchObject({ status: 'completed', counts: { ok: 5 }, handlerMs: 4 });
      const { parts } = await shop.result(id);
      expect(states(parts)).toEqual(['ok 0+2', 'ok 2+3']);
      expect(parts[0]).toEqual(first);
      expect(parts[1]).toMatchObject({
        outputRow: 0,
        output: { bytes: expect.objectContaining({ length: 200 }) },
      });
    }
  });

  it('keeps failed rows beside those that succeeded', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(4);
    const batch = await shop.run([id, 0, 4]);
    await shop.settle(batch, [
      { callId: id, from: 0, count: 1, state: 'ok', outputRow: 0 },
      { callId: id, from: 1, count: 1, state: 'failed', error: BOOM },
      { callId: id, from: 2, count: 2, state: 'ok', outputRow: 2 },
    ]);
    expect(await shop.call(id)).toMatchObject({ status: 'failed', counts: { ok: 3, failed: 1 } });
    for (const reopen of [false, true]) {
      if (reopen) await shop.reopen();
      const { parts } = await shop.result(id);
      expect(states(parts)).toEqual(['ok 0+1', 'failed 1+1', 'ok 2+2']);
      expect(parts[1]).toMatchObject({ error: BOOM });
    }
  });

  it('runs a retry under the same id, after its time, with its counters', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(2);
    const batch = await shop.run([id, 0, 2]);
    const notBefore = shop.now + 100;
    await shop.settle(batch, [], [shop.continuation(batch.slices, { notBefore })]);
    expect(await shop.lease()).toEqual([]);
    expect(await shop.expire()).toMatchObject({ nextAt: notBefore });
    const ready = shop.collect('ready');
    await shop.settled();
    shop.now = notBefore;
    await shop.expire();
    await shop.settled();
    expect(ready).toEqual([{ versionId: shop.versionId }]);
    const retry = await shop.leaseOne();
    expect(retry).toMatchObject({ batchId: batch.batchId, attempts: 1, mode: 'retry', slices: batch.slices });
    expect(retry.token).not.toBe(batch.token);
    expect(await shop.settleOk(batch)).toMatchObject({ stale: true });
    await shop.settleOk(retry);
    expect(await shop.call(id)).toMatchObject({ status: 'completed', handlerMs: 4 });
  });

  it('splits a failed batch into new ones and commits what succeeded', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(6);
    const batch = await shop.run([id, 0, 6]);
    const slice = (from: number, count: number) => ({ callId: id, from, count });
    await shop.settle(
      batch,
      [{ ...slice(0, 2), state: 'ok', outputRow: 0 }],
      [
        shop.continuation([slice(2, 2)], { mode: 'isolate' }),
        shop.continuation([slice(4, 2)], { mode: 'isolate' }),
      ],
    );
    expect(states((await shop.result(id)).parts)).toEqual(['ok 0+2', 'pending 2+4']);
    const [left, right] = await shop.lease(2);
    expect([left, right]).toMatchObject([
      { mode: 'isolate', slices: [slice(2, 2)] },
      { mode: 'isolate', slices: [slice(4, 2)] },
    ]);
    expect(new Set([batch.batchId, left!.batchId, right!.batchId]).size).toBe(3);
    await shop.settleOk(right!);
    await shop.fail(left!);
    expect(states((await shop.result(id)).parts)).toEqual(['ok 0+2', 'failed 2+2', 'ok 4+2']);
    expect(await shop.call(id)).toMatchObject({ status: 'failed', counts: { ok: 4, failed: 2 } });
  });

  it('never gives one output id to two outputs when a part settles and the rest retries', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(4);
    const batch = await shop.run([id, 0, 4]);
    const rest = { callId: id, from: 2, count: 2 };
    await shop.settle(
      batch,
      [{ callId: id, from: 0, count: 2, state: 'ok', outputRow: 0 }],
      [shop.continuation([rest])],
    );
    const again = await shop.leaseOne();
    expect(again).toMatchObject({ batchId: batch.batchId, slices: [rest] });
    await shop.settleOk(again, 32);
    const { parts } = await shop.result(id);
    const outputs = parts.flatMap((part) => (part.state === 'ok' ? [part.output] : []));
    expect(outputs.map(({ bytes }) => bytes.byteLength)).toEqual([64, 32]);
    expect(new Set(outputs.map((output) => output.batchId)).size).toBe(2);
  });

  it('extends leases that are held and names those that are lost', async () => {
    await using shop = await Workshop.make(factory);
    const batch = await shop.run([await shop.admit(1), 0, 1]);
    shop.now += LEASE_MS - 1;
    const held = { batchId: batch.batchId, token: batch.token };
    const leases = [held, { batchId: 99, token: 'x' }];
    expect(await shop.queue.extend({ now: shop.now, leaseMs: LEASE_MS, leases })).toEqual({ lost: [99] });
    shop.now += LEASE_MS - 1;
    expect(await shop.expire()).toMatchObject({ leases: 0, nextAt: shop.now + 1 });
    shop.now += 1;
    expect(await shop.expire()).toMatchObject({ leases: 1 });
    expect(await shop.queue.extend({ now: shop.now, leaseMs: LEASE_MS, leases: [held] })).toEqual({
      lost: [batch.batchId],
    });
    expect(await shop.settleOk(batch)).toMatchObject({ stale: true });
  });

  it('loses a lease whose holder is silent also when the clock was set back meanwhile', async () => {
    await using shop = await Workshop.make(factory);
    const { batchId, token } = await shop.run([await shop.admit(1), 0, 1]);
    shop.now -= 10_000;
    await shop.queue.extend({ now: shop.now, leaseMs: LEASE_MS, leases: [{ batchId, token }] });
    shop.now += 2 * LEASE_MS;
    expect(await shop.expire()).toMatchObject({ leases: 1 });
  });

  it('takes a batch back at no cost', async () => {
    await using shop = await Workshop.make(factory);
    const batch = await shop.run([await shop.admit(1), 0, 1]);
    const lease = { now: shop.now, batchId: batch.batchId, token: batch.token };
    expect(await shop.queue.release(lease)).toBe(true);
    expect(await shop.queue.release(lease)).toBe(false);
    expect(await shop.leaseOne()).toMatchObject({
      batchId: batch.batchId,
      attempts: 0,
      claims: 0,
      mode: 'fresh',
    });
  });

  it('spends a claim for each lost lease, then tries row by row, then quarantines', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(3);
    await shop.seal([id, 0, 3]);
    for (let claims = 0; claims <= CLAIMS_MAX; claims += 1) {
      expect(await shop.leaseOne()).toMatchObject({ claims, attempts: 0 });
      shop.now += LEASE_MS;
      expect(await shop.expire()).toMatchObject({ leases: 1 });
    }
    const alone = await shop.lease(10);
    expect(alone.map(({ slices, mode }) => [slices[0], mode])).toEqual(
      [0, 1, 2].map((from) => [{ callId: id, from, count: 1 }, 'isolate']),
    );
    await shop.settleOk(alone[0]!);
    await shop.settleOk(alone[2]!);
    shop.now += LEASE_MS;
    await shop.expire();
    const { parts } = await shop.result(id);
    expect(states(parts)).toEqual(['ok 0+1', 'failed 1+1', 'ok 2+1']);
    expect(parts[1]).toMatchObject({ error: { code: 'row_quarantined' } });
    expect(await shop.lease()).toEqual([]);
  });

  it('keeps late rows out and counts them', async () => {
    await using shop = await Workshop.make(factory);
    const [a, b] = [await shop.admit(1), await shop.admit(1)];
    const batch = await shop.run([a, 0, 1], [b, 0, 1]);
    await shop.queue.cancel({ now: shop.now, callId: a });
    expect(await shop.settle(batch, okOutcomes(batch.slices))).toMatchObject({ accepted: true });
    expect(await shop.call(a)).toMatchObject({ status: 'cancelled', counts: { ok: 0, cancelled: 1 } });
    expect(await shop.call(b)).toMatchObject({ status: 'completed' });
    expect((await shop.store.counters()).late_rows).toBe(1);
  });
};
