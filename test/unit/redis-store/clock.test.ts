import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import type { Store } from '../../../shared/store/ports/store.ts';
import type { Workshop } from '../../contract/workshop.ts';
import { describeWithRedis, RedisServer } from '../../support/redis-servers.ts';
import { openRedis } from '../../support/redis-store.ts';
import { eventually } from '../../support/sluice-process.ts';
import { makeShop, newPrefix } from './homes.ts';

let server: RedisServer;
const rightNow = Date.now;

/** Sets this machine's clock, as the process sees it. */
const setClock = (byMs: number): void => {
  Date.now = () => rightNow() + byMs;
};

const own = (store: Store, shop: Workshop, memberId: string) =>
  store.coordination.own({ now: shop.now, memberId, functionName: 'f', leaseMs: 1000 });

describeWithRedis("a process whose clock is not the server's", () => {
  beforeAll(async () => {
    server = await RedisServer.start({ aof: 'no' });
  });
  afterEach(() => setClock(0));
  afterAll(() => server.stop());

  it.each([
    [
      60_000,
      30_000,
      /^This machine's clock is 60 s ahead of that of the Redis server \(here \S+Z, there \S+Z\).*NTP, within 1\.0 s\.$/,
    ],
    [-7000, 30_000, /^This machine's clock is 7\.0 s behind/],
    [800, 2000, /^This machine's clock is 0\.8 s ahead.*within 0\.5 s/],
  ])('by %i ms at leases of %i ms is refused at its start', async (byMs, leaseMs, sentence) => {
    setClock(byMs);
    const refused = openRedis(server.url, newPrefix(), { leaseMs });
    await expect(refused).rejects.toMatchObject({ code: 'store_unavailable', message: sentence });
  });

  it.each([60_000, -60_000])(
    'after it was set by %i ms takes no work and ends none, is not ready, and goes on when it is right',
    async (byMs) => {
      const told: string[] = [];
      await using shop = await makeShop(server.url, newPrefix(), {
        onWarning: (sentence) => /clock/.test(sentence) && told.push(sentence),
      });
      // Of the same process; one of them sees the clock go wrong, and leaves.
      const other = shop.server.connect();
      const leaver = shop.server.connect();
      const { queue, coordination, retention } = shop.store;
      const batch = await shop.run([await shop.admit(1), 0, 1]);
      await shop.offer(2);
      await shop.seal([await shop.admit(1), 0, 1]);
      expect(await coordination.join({ now: shop.now, memberId: 'shop', until: shop.now + 1000 })).toEqual([
        'shop',
      ]);

      setClock(byMs);
      const { now } = shop;
      shop.now = now + byMs;
      expect(await shop.lease()).toEqual([]);
      // A server that answers is not away, whatever it says of clocks.
      await shop.store.reach();
      await shop.offer(2);
      expect(await shop.free()).toEqual({ idle: 0, prefetch: 0 });
      shop.now += 120_000;
      expect(await shop.expire()).toEqual({ leases: 0, calls: 0, more: false, nextAt: null });
      expect(await coordination.join({ now: shop.now, memberId: 'shop', until: shop.now + 1000 })).toEqual(
        [],
      );
      expect(await own(other, shop, 'b')).toBeNull();
      await expect(retention.usage()).rejects.toThrow(/^This machine's clock is 60 s/);
      await eventually('it is told', async () => told.length > 0);
      await leaver.close();
      // What runs is extended by the time that was agreed.
      shop.now = now + byMs;
      const leases = [{ batchId: batch.batchId, token: batch.token }];
      expect(await queue.extend({ now: shop.now, leaseMs: 30_000, leases })).toEqual({ lost: [] });

      setClock(0);
      await eventually('it is told', async () => told.length > 1);
      expect(told).toEqual([
        expect.stringMatching(/^This machine's clock is 60 s .* takes no work\.$/),
        "This machine's clock is right again.",
      ]);
      shop.now = now;
      await eventually('what was offered counts', async () => (await shop.free()).idle > 0);
      shop.now = now + 29_000;
      expect(await shop.expire()).toMatchObject({ leases: 0 });
      expect(await shop.lease()).toHaveLength(1);
      expect(await coordination.join({ now: shop.now, memberId: 'shop', until: shop.now + 1000 })).toEqual([
        'shop',
      ]);
      await retention.usage();
      expect(await shop.settleOk(batch)).toMatchObject({ accepted: true });
    },
  );
});
