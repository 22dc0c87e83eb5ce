import { expect, it } from 'vitest';
import type { StoreFactory } from './factory.ts';
import { LEASE_MS, Workshop } from './workshop.ts';

export const slotSuite = (factory: StoreFactory): void => {
  it('counts free slots: offers less ready batches, idle ones first', async () => {
    await using shop = await Workshop.make(factory);
    expect(await shop.free()).toEqual({ idle: 0, prefetch: 0 });
    await shop.offer(1, 1, 'a');
    await shop.offer(1, 0, 'b');
    expect(await shop.free()).toEqual({ idle: 2, prefetch: 1 });
    const ids = [await shop.admit(1), await shop.admit(1), await shop.admit(1), await shop.admit(1)];
    const free: unknown[] = [];
    for (const id of ids) free.push((await shop.seal([id, 0, 1])).free);
    expect(free).toMatchObject([
      { idle: 1, prefetch: 1 },
      { idle: 0, prefetch: 1 },
      { idle: 0, prefetch: 0 },
      { idle: 0, prefetch: 0 },
    ]);
    await shop.lease(2, 'a');
    expect(await shop.free()).toEqual({ idle: 0, prefetch: 0 });
    await shop.lease(2, 'b');
    expect(await shop.free()).toEqual({ idle: 0, prefetch: 0 });
    await shop.offer(3, 0, 'a');
    expect(await shop.free()).toEqual({ idle: 3, prefetch: 0 });
    await shop.offer(0, 0, 'a');
    expect(await shop.free()).toEqual({ idle: 0, prefetch: 0 });
  });

  it('takes a prefetch slot when no idle one is left', async () => {
    await using shop = await Workshop.make(factory);
    await shop.offer(1, 1);
    const ids = [await shop.admit(1), await shop.admit(1)];
    await shop.run([ids[0]!, 0, 1]);
    expect(await shop.free()).toEqual({ idle: 0, prefetch: 1 });
    await shop.run([ids[1]!, 0, 1]);
    expect(await shop.free()).toEqual({ idle: 0, prefetch: 0 });
  });

  it('ends the offers of a silent worker', async () => {
    await using shop = await Workshop.make(factory);
    await shop.offer(2);
    await shop.settled();
    const slots = shop.collect('slots');
    expect(await shop.expire()).toMatchObject({ nextAt: shop.now + LEASE_MS });
    shop.now += LEASE_MS;
    await shop.expire();
    expect(await shop.free()).toEqual({ idle: 0, prefetch: 0 });
    await shop.settled();
    expect(slots).toEqual([{ versionId: shop.versionId, idle: 0, prefetch: 0 }]);
  });

  it('frees the slot of a ready batch whose calls were all cancelled', async () => {
    await using shop = await Workshop.make(factory);
    await shop.offer(1);
    const [a, b] = [await shop.admit(1), await shop.admit(1)];
    await shop.seal([a, 0, 1], [b, 0, 1]);
    await shop.queue.cancel({ now: shop.now, callId: a });
    expect(await shop.free()).toEqual({ idle: 0, prefetch: 0 });
    await shop.queue.cancel({ now: shop.now, callId: b });
    expect(await shop.free()).toEqual({ idle: 1, prefetch: 0 });
    expect(await shop.lease()).toEqual([]);
  });

  it('refuses an offer for a version that is not there', async () => {
    await using shop = await Workshop.make(factory);
    const offer = { now: shop.now, workerId: 'w', versionId: 99, idle: 1, prefetch: 0, until: shop.now + 1 };
    await expect(shop.queue.offer(offer)).rejects.toMatchObject({ code: 'function_not_found' });
  });

  it('tells slots in step with the replies of seals', async () => {
    await using shop = await Workshop.make(factory);
    const log: string[] = [];
    shop.queue.watch({ kind: 'slots' }, ({ idle }) => log.push(`slots ${idle}`));
    await shop.offer(2);
    const ids = [await shop.admit(1), await shop.admit(1)];
    for (const id of ids) log.push(`reply ${(await shop.seal([id, 0, 1])).free.idle}`);
    await shop.settled();
    const last = log.filter((line) => line.startsWith('slots')).at(-1);
    expect(last).toBe('slots 0');
    // Each told number is that of the seal whose reply came with it.
    expect(log.filter((line) => line.startsWith('slots'))).toEqual(['slots 2', 'slots 1', 'slots 0']);
    expect(log.filter((line) => line.startsWith('reply'))).toEqual(['reply 1', 'reply 0']);
  });

  it('tells slots with each seal, also where an offer of the same moment makes up for it', async () => {
    await using shop = await Workshop.make(factory);
    const id = await shop.admit(1);
    await shop.offer(1, 1);
    const slots = shop.collect('slots');
    await shop.settled();
    const sealed = shop.seal([id, 0, 1]);
    await shop.offer(2, 1);
    await sealed;
    await shop.settled();
    expect(slots.at(-1)).toEqual({ versionId: shop.versionId, idle: 1, prefetch: 1 });
  });

  it('stops telling once nobody watches', async () => {
    await using shop = await Workshop.make(factory);
    const seen: number[] = [];
    const stop = shop.queue.watch({ kind: 'slots' }, ({ idle }) => seen.push(idle));
    await shop.offer(1);
    await shop.settled();
    stop();
    stop();
    await shop.offer(2);
    await shop.settled();
    expect(seen).toEqual([1]);
  });
};
