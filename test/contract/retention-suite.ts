import { expect, it } from 'vitest';
import type { StoreFactory } from './factory.ts';
import { LIMITS } from './factory.ts';
import { BOOM, Workshop } from './workshop.ts';

export const retentionSuite = (factory: StoreFactory): void => {
  it('sweeps what is past its retention: gone at first, unknown later', async () => {
    await using shop = await Workshop.make(factory);
    const { retention } = shop.store;
    const [a, b, live] = [await shop.admit(1), await shop.admit(1), await shop.admit(1)];
    await shop.settleOk(await shop.run([a, 0, 1], [b, 0, 1]));
    expect(await retention.sweep({ now: shop.now, limit: 10 })).toBe(false);
    expect(await shop.call(a)).toMatchObject({ status: 'completed' });
    shop.now += LIMITS.retentionMs;
    expect(await retention.sweep({ now: shop.now, limit: 1 })).toBe(true);
    expect(await retention.sweep({ now: shop.now, limit: 1 })).toBe(true);
    expect(await retention.sweep({ now: shop.now, limit: 1 })).toBe(false);
    for (const id of [a, b]) {
      expect(await shop.queue.call(id)).toBe('gone');
      expect(await shop.queue.result({ callId: id, from: 0, bytesMax: 1 })).toBe('gone');
    }
    expect(await shop.call(live)).toMatchObject({ status: 'pending' });
    await shop.reopen();
    expect(await shop.queue.call(a)).toBe('gone');
    shop.now += 2 * LIMITS.retentionMs;
    await shop.store.retention.sweep({ now: shop.now, limit: 10 });
    expect(await shop.queue.call(a)).toBeUndefined();
    expect(await shop.call(live)).toMatchObject({ status: 'pending' });
  });

  it('lets an acknowledged result go early', async () => {
    await using shop = await Workshop.make(factory);
    const { retention } = shop.store;
    const [id, open] = [await shop.admit(1), await shop.admit(1)];
    await shop.settleOk(await shop.run([id, 0, 1]));
    const before = (await shop.result(id)).parts;
    expect(await retention.acknowledge({ now: shop.now, callId: id })).toBe(true);
    expect(await retention.acknowledge({ now: shop.now, callId: open })).toBe(false);
    expect(await retention.acknowledge({ now: shop.now, callId: 99 })).toBe(false);
    expect(await shop.call(id)).toMatchObject({ expiresAt: shop.now + LIMITS.acknowledgedRetentionMs });
    // It may be read again until then.
    expect((await shop.result(id)).parts).toEqual(before);
    shop.now += LIMITS.acknowledgedRetentionMs;
    await retention.sweep({ now: shop.now, limit: 10 });
    expect(await shop.queue.call(id)).toBe('gone');
  });

  it('keeps a batch as long as one of its calls is there', async () => {
    await using shop = await Workshop.make(factory);
    const [a, b, c] = [await shop.admit(1), await shop.admit(1), await shop.admit(2)];
    await shop.settle(await shop.run([a, 0, 1], [b, 0, 1], [c, 0, 1]), [
      { callId: a, from: 0, count: 1, state: 'ok', outputRow: 0 },
      { callId: b, from: 0, count: 1, state: 'failed', error: BOOM },
      { callId: c, from: 0, count: 1, state: 'ok', outputRow: 1 },
    ]);
    await shop.store.retention.acknowledge({ now: shop.now, callId: a });
    shop.now += LIMITS.acknowledgedRetentionMs;
    await shop.store.retention.sweep({ now: shop.now, limit: 10 });
    await shop.reopen();
    expect(await shop.queue.call(a)).toBe('gone');
    expect((await shop.result(b)).parts).toMatchObject([{ error: BOOM }]);
    await shop.settleOk(await shop.run([c, 1, 1]));
    expect((await shop.result(c)).parts).toMatchObject([{ outputRow: 1 }, { outputRow: 0 }]);
  });

  it.skipIf(factory.capabilities.uploads)(
    'says how much it holds, and gives the bytes of swept results back',
    async () => {
      await using shop = await Workshop.make(factory);
      const held = async (): Promise<number> => {
        const { databaseBytes, segmentBytes, full } = await shop.store.retention.usage();
        expect(full).toBe(false);
        return databaseBytes + segmentBytes;
      };
      if (factory.capabilities.limitsBytes)
        expect(await shop.store.retention.usage()).toMatchObject({ limitBytes: LIMITS.limitBytes });
      const before = await held();
      // Well above what a shared server's connections take and give back meanwhile.
      const bytes = 2 ** 24;
      const payload = { kind: 'arrow', bytes: new Uint8Array(bytes) } as const;
      const id = await shop.admit(1, { bytes, payload });
      await shop.settleOk(await shop.run([id, 0, 1]), bytes);
      // A payload may go with its call's end, the output stays. Redis takes for a moment longer than it has them what buffers of
      // connections held off its data.
      await expect.poll(async () => (await held()) - before).toBeGreaterThan(bytes / 2);
      const full = await held();
      shop.now += LIMITS.retentionMs;
      await shop.store.retention.sweep({ now: shop.now, limit: 10 });
      await shop.reopen();
      expect(full - (await held())).toBeGreaterThan(bytes / 2);
    },
  );
};
