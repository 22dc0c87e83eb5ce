import { expect, it } from 'vitest';
import type { StoreFactory } from './factory.ts';
import { okOutcomes, Workshop } from './workshop.ts';

const refusal = (code: string, extra: Record<string, unknown> = {}) =>
  expect.objectContaining({ code, ...extra });

export const admissionSuite = (factory: StoreFactory): void => {
  it('says how durable it is', async () => {
    await using shop = await Workshop.make(factory);
    expect(shop.queue.durability).toBe(factory.capabilities.durability);
    expect(shop.queue.generation).not.toBe('');
  });

  it('names calls in order and shows what was admitted', async () => {
    await using shop = await Workshop.make(factory);
    const facts = {
      lane: 'l',
      priority: 7,
      metadata: { a: 'b' },
      traceparent: '00-1',
      deadlineAt: shop.now + 10,
    };
    const first = await shop.admitted(3, { ...facts, apiKeyId: 4 });
    expect(first).toEqual({ callId: expect.any(Number), attached: false, status: 'pending' });
    expect(await shop.admit(1)).toBeGreaterThan(first.callId);
    expect(await shop.call(first.callId)).toMatchObject({
      ...facts,
      id: first.callId,
      functionName: 'f',
      versionId: shop.versionId,
      versionDigest: expect.stringMatching(/^[0-9a-f]{12}$/),
      apiKeyId: 4,
      rows: 3,
      bytes: 24,
      status: 'pending',
      counts: { ok: 0, failed: 0, cancelled: 0, expired: 0 },
      arrivedAt: shop.now,
      startedAt: null,
      finishedAt: null,
      expiresAt: null,
      queueMs: null,
    });
  });

  it('completes a call of no rows when it is admitted', async () => {
    await using shop = await Workshop.make(factory);
    const { callId, status } = await shop.admitted(0);
    expect(status).toBe('completed');
    expect(await shop.call(callId)).toMatchObject({ status: 'completed', finishedAt: shop.now });
    expect((await shop.result(callId)).parts).toEqual([]);
    expect(await shop.load()).toMatchObject({ waitingCalls: 0, waitingRows: 0 });
  });

  it('refuses a function or version that is not there', async () => {
    await using shop = await Workshop.make(factory);
    await expect(shop.admit(1, { versionId: 99 })).rejects.toEqual(refusal('function_not_found'));
    await expect(shop.admit(1, { functionName: 'g' })).rejects.toEqual(refusal('function_not_found'));
    expect(await shop.load()).toMatchObject({ waitingCalls: 0, waitingRows: 0 });
  });

  it('refuses more unfinished rows or bytes than its limits, and takes more when some have finished', async () => {
    await using shop = await Workshop.make(factory, { queueRowsMax: 10, queueBytesMax: 100 });
    const id = await shop.admit(8);
    const full = refusal('queue_full', { extra: { retry_after_seconds: expect.any(Number) } });
    const refuses = async (): Promise<void> => {
      await expect(shop.admit(3)).rejects.toEqual(full);
      await expect(shop.admit(1, { bytes: 37 })).rejects.toEqual(full);
    };
    await refuses();
    // In a batch, and in a batch that waits for its next run, rows are as many as before.
    const batch = await shop.run([id, 0, 8]);
    await refuses();
    const later = shop.continuation(batch.slices, { notBefore: shop.now + 3_600_000 });
    await shop.settle(batch, [], [later]);
    await refuses();
    await shop.reopen({ queueRowsMax: 10, queueBytesMax: 100 });
    await refuses();
    shop.now = later.notBefore;
    const again = await shop.leaseOne();
    const [done, rest] = [
      again.slices.map((slice) => ({ ...slice, count: 2 })),
      [{ callId: id, from: 2, count: 6 }],
    ];
    await shop.settle(again, okOutcomes(done), [shop.continuation(rest)]);
    await expect(shop.admit(3)).resolves.toBeGreaterThan(id);
    await expect(shop.admit(1, { bytes: 37 })).rejects.toEqual(full);
    await shop.queue.cancel({ now: shop.now, callId: id });
    await expect(shop.admit(1, { bytes: 37 })).resolves.toBeGreaterThan(id);
  });

  it('refuses for good what alone is more than its limits', async () => {
    await using shop = await Workshop.make(factory, { queueRowsMax: 10, queueBytesMax: 100 });
    await expect(shop.admit(11)).rejects.toEqual(refusal('payload_too_large', { retryable: false }));
    await expect(shop.admit(1, { bytes: 101 })).rejects.toEqual(refusal('payload_too_large'));
    await shop.admit(9);
    await expect(shop.admit(11)).rejects.toThrow(
      'The call alone has 11 rows, more than queueRowsMax (10) allows function "f" in all; send it as several calls, or raise the limit.',
    );
    await expect(shop.admit(2)).rejects.toEqual(refusal('queue_full'));
    // Attaching to a call takes no room: how services/calls asks for one of an earlier version.
    const idempotency = { key: 'k', bodyDigest: 'd' };
    const { callId } = await shop.admitted(1, { idempotency });
    const never = { rows: Number.MAX_SAFE_INTEGER, bytes: 0 };
    await expect(shop.admitted(1, { idempotency, ...never })).resolves.toMatchObject({
      callId,
      attached: true,
    });
  });

  it('hands the same payload to a run after a long wait', async () => {
    await using shop = await Workshop.make(factory);
    for (const payload of [
      { kind: 'json', text: '[[1,2]]' },
      { kind: 'arrow', bytes: new Uint8Array([1, 2, 3]) },
      { kind: 'arrow', bytes: new Uint8Array(100_000).fill(7) },
    ] as const) {
      const batch = await shop.run([await shop.admit(2, { payload }), 0, 2]);
      expect(batch.calls[0]?.payload).toEqual(payload);
      await shop.settle(batch, [], [shop.continuation(batch.slices, { notBefore: shop.now + 60_000 })]);
      shop.now += 60_000;
      const again = await shop.leaseOne();
      expect(again.calls[0]?.payload).toEqual(payload);
      await shop.settleOk(again);
    }
  });

  it.runIf(factory.capabilities.limitsBytes)(
    'refuses at its limit of bytes, reads on, and recovers',
    async () => {
      await using shop = await Workshop.make(factory, {
        limitBytes: 3 * 2 ** 20,
        acknowledgedRetentionMs: 0,
      });
      const bytes = new Uint8Array(2 ** 20).fill(1);
      const payload = { kind: 'arrow', bytes } as const;
      const admitted: number[] = [];
      const admitAll = async (): Promise<void> => {
        for (;;) admitted.push(await shop.admit(1, { bytes: bytes.byteLength, payload }));
      };
      await expect(admitAll()).rejects.toEqual(refusal('disk_full'));
      expect(admitted.length).toBeGreaterThan(0);
      expect(await shop.store.retention.usage()).toMatchObject({ limitBytes: 3 * 2 ** 20 });
      for (const id of admitted) {
        expect(await shop.call(id)).toMatchObject({ status: 'pending' });
        await shop.settleOk(await shop.run([id, 0, 1]));
        await shop.store.retention.acknowledge({ now: shop.now, callId: id });
      }
      // A file goes when nothing refers to it, where room is missing also the one that is written to.
      await shop.store.retention.sweep({ now: shop.now, limit: 100 });
      const next = () => shop.admit(1, { bytes: bytes.byteLength, payload });
      expect(await next().catch(next)).toBeGreaterThan(admitted.at(-1)!);
    },
  );

  it('answers a request that makes no sense and goes on with all others', async () => {
    await using shop = await Workshop.make(factory);
    const held = await shop.run([await shop.admit(1), 0, 1]);
    // All in one tick: the call before and the call behind it must not share its fate, nor may its key stay taken.
    const idempotency = { key: 'k', bodyDigest: 'd' };
    const [before, nonsense, behind, offered] = [
      shop.admit(1),
      expect(shop.admit(1, { bytes: Number.NaN, idempotency })).rejects.toThrow(/bug/),
      shop.admit(2),
      shop.offer(3),
    ];
    await Promise.all([nonsense, offered, ...(factory.capabilities.uploads ? [before, behind] : [])]);
    expect(await shop.load()).toMatchObject({ waitingCalls: 2, waitingRows: 3 });
    for (const [id, rows] of [
      [await before, 1],
      [await behind, 2],
    ] as const)
      expect(await shop.call(id)).toMatchObject({ rows, status: 'pending' });
    expect(await shop.admitted(1, { idempotency })).toMatchObject({ attached: false });
    expect(await shop.free()).toEqual({ idle: 3, prefetch: 0 });
    expect(await shop.settleOk(held)).toMatchObject({ accepted: true });
    await expect(shop.admit(1)).resolves.toBeGreaterThan(0);
  });

  it('attaches a repeat of an idempotency key, alive or finished, and refuses another body', async () => {
    await using shop = await Workshop.make(factory);
    const idempotency = { key: 'k', bodyDigest: 'd' };
    const first = await shop.admitted(1, { idempotency });
    expect(await shop.admitted(1, { idempotency })).toEqual({ ...first, attached: true });
    const other = { idempotency: { key: 'k', bodyDigest: 'e' } };
    await expect(shop.admit(1, other)).rejects.toEqual(refusal('idempotency_mismatch'));
    await shop.settleOk(await shop.run([first.callId, 0, 1]));
    const again = { callId: first.callId, attached: true, status: 'completed' };
    expect(await shop.admitted(1, { idempotency })).toEqual(again);
    await shop.reopen();
    expect(await shop.admitted(1, { idempotency })).toEqual(again);
    const otherKey = await shop.admitted(1, { idempotency, apiKeyId: 9 });
    expect(otherKey).toMatchObject({ attached: false });
  });

  it('attaches concurrent repeats to one call', async () => {
    await using shop = await Workshop.make(factory);
    const idempotency = { key: 'k', bodyDigest: 'd' };
    const answers = await Promise.all(Array.from({ length: 20 }, () => shop.admitted(1, { idempotency })));
    expect(new Set(answers.map(({ callId }) => callId)).size).toBe(1);
    expect(answers.filter(({ attached }) => !attached)).toHaveLength(1);
  });

  it('forgets an idempotency key with its call', async () => {
    await using shop = await Workshop.make(factory);
    const idempotency = { key: 'k', bodyDigest: 'd' };
    const { callId } = await shop.admitted(0, { idempotency });
    shop.now += 4_000_000;
    await shop.store.retention.sweep({ now: shop.now, limit: 10 });
    expect(await shop.admitted(0, { idempotency })).toMatchObject({ attached: false });
    expect(await shop.queue.call(callId)).toBe('gone');
  });

  it.each([10, 70_000, 3_000_000])(
    'hands JSON and Arrow payloads of about %i bytes to the lease',
    async (bytes) => {
      await using shop = await Workshop.make(factory);
      const text = JSON.stringify([['é'.repeat(bytes / 2)]]);
      const whole = Uint8Array.from({ length: bytes + 8 }, (_, index) => index % 255);
      const a = await shop.admit(1, { bytes, payload: { kind: 'json', text } });
      // A view into a larger buffer: only its own bytes count.
      const b = await shop.admit(1, {
        bytes,
        payload: { kind: 'arrow', bytes: whole.subarray(4, bytes + 4) },
      });
      const check = async (): Promise<void> => {
        const batch = await shop.leaseOne();
        const [json, arrow] = batch.calls.map(({ payload }) => payload);
        expect(json).toEqual({ kind: 'json', text });
        expect(arrow?.kind === 'arrow' && Buffer.compare(arrow.bytes, whole.subarray(4, bytes + 4))).toBe(0);
        await shop.queue.release({ now: shop.now, batchId: batch.batchId, token: batch.token });
      };
      await shop.seal([a, 0, 1], [b, 0, 1]);
      await check();
      if (!factory.capabilities.keepsLeases) {
        await shop.reopen();
        await check();
      }
    },
  );

  it('pages through what waits, by version and in order', async () => {
    await using shop = await Workshop.make(factory);
    const ids: number[] = [];
    for (let i = 0; i < 7; i += 1)
      ids.push(await shop.admit(i + 1, { lane: `l${i}`, schemaKey: i === 3 ? 's' : '' }));
    await shop.seal([ids[0]!, 0, 1], [ids[2]!, 0, 1]);
    const seen: { callId: number; from: number; rows: number }[] = [];
    for (let after: number | null = 0; after !== null; ) {
      const page = await shop.queue.open({ versionId: shop.versionId, after, limit: 2 });
      expect(page.calls.length).toBeLessThanOrEqual(2);
      seen.push(...page.calls);
      after = page.next;
    }
    expect(seen.map(({ callId, from, rows }) => [callId, from, rows])).toEqual([
      [ids[1], 0, 2],
      [ids[2], 1, 2],
      ...[3, 4, 5, 6].map((i) => [ids[i], 0, i + 1]),
    ]);
    expect(seen[2]).toMatchObject({
      lane: 'l3',
      schemaKey: 's',
      bytes: 32,
      arrivedAt: shop.now,
      priority: 0,
    });
    expect((await shop.queue.open({ versionId: null, after: 0, limit: 100 })).calls).toEqual(seen);
    expect((await shop.queue.open({ versionId: 99, after: 0, limit: 100 })).calls).toEqual([]);
  });
};
