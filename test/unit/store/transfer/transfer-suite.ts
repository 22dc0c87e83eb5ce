/** What a migration promises, between any two stores. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Call, Slice } from '../../../../shared/domain/call.ts';
import type { StoreServer } from '../../../../shared/store/ports/server.ts';
import type { Store } from '../../../../shared/store/ports/store.ts';
import type { TransferSource, TransferTarget } from '../../../../shared/store/ports/transfer.ts';
import { abandonTransfer, transfer } from '../../../../shared/store/transfer.ts';
import { tagOf } from '../../../../shared/wire/call-id.ts';
import type { StoreHome } from '../../../contract/factory.ts';
import { START, Workshop } from '../../../contract/workshop.ts';
import { callSeen, RandomLedger, registrySeen, steps } from './random-ledger.ts';

/** One side: a store that can be served, read out, and built. */
export type Side = StoreHome & {
  source(): Promise<TransferSource>;
  target(): Promise<TransferTarget>;
};

export type Sides = {
  readonly name: string;
  readonly from: () => Promise<Side>;
  readonly to: () => Promise<Side>;
};

const migrate = async (from: Side, to: Side, wrap = (target: TransferTarget) => target) => {
  const source = await from.source();
  try {
    const target = await to.target();
    try {
      return await transfer(source, wrap(target), START);
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
};

/** Opens the store while `work` looks at it. */
const served = async <T>(side: Side, work: (store: Store) => Promise<T>): Promise<T> => {
  const server: StoreServer = await side.open();
  const store = server.connect();
  try {
    return await work(store);
  } finally {
    await store.close();
    await server.close();
  }
};

/** Of what is asked at once: one after another, the answers would be most of the suite's time. */
const GROUP = 100;

const inGroups = async <T>(all: readonly T[], work: (one: T) => Promise<unknown>): Promise<void> => {
  for (let at = 0; at < all.length; at += GROUP) await Promise.all(all.slice(at, at + GROUP).map(work));
};

/** Seals what waits and leases what is sealed until nothing is left; the rows of each call in the order of their leases. */
const drain = async (store: Store): Promise<Map<number, Slice[]>> => {
  const leased = new Map<number, Slice[]>();
  const now = START + 1_000_000;
  for (const { name, current } of await store.registry.functions()) {
    await store.registry.update({ now, name, update: { paused: false } });
    const owned = await store.coordination.own({
      now,
      memberId: 'drain',
      functionName: name,
      leaseMs: 60_000,
    });
    const versionId = current.id;
    const { calls } = await store.queue.open({ versionId, after: 0, limit: 10_000 });
    await inGroups(calls, ({ callId, from, rows }) => {
      const slices = [{ callId, from, count: rows }];
      return store.queue.seal({ now, versionId, slices, reason: 'drain', fence: owned!.fence });
    });
    await store.queue.offer({ now, workerId: 'w', versionId, idle: 1000, prefetch: 0, until: now + 60_000 });
    for (;;) {
      const batches = await store.queue.lease({ now, workerId: 'w', versionId, leaseMs: 60_000, max: 50 });
      if (batches.length === 0) break;
      for (const batch of batches)
        for (const slice of batch.slices)
          leased.set(slice.callId, [...(leased.get(slice.callId) ?? []), slice]);
    }
  }
  return leased;
};

const fill = async (from: Side, take: (ledger: RandomLedger) => Promise<void>) => {
  const shop = new Workshop(from);
  await shop.open();
  const ledger = new RandomLedger(shop);
  await ledger.prepare();
  await take(ledger);
  await ledger.pause();
  const before = new Map<number, unknown>();
  await shop.close();
  // Read after a stop: leases end with it, as they do in a migration.
  const { registry, tag } = await served(from, async (store) => {
    await inGroups(ledger.calls, async ({ id }) => before.set(id, await callSeen(store, id)));
    return { registry: await registrySeen(store), tag: tagOf(store.queue.generation) };
  });
  return { ledger, before, registry, tag };
};

type Filled = Awaited<ReturnType<typeof fill>>;

/** Everything is in the target under the old ids, waits there, and attaches its replays. */
const check = async (to: Side, { ledger, before, registry, tag }: Filled): Promise<void> => {
  await served(to, async (store) => {
    expect(await registrySeen(store)).toEqual(registry);
    const ids = new Map<number, number>();
    await inGroups(ledger.calls, async ({ id }) => {
      const now = await store.lineage.resolve({ tag, id });
      expect(now).not.toBeNull();
      ids.set(id, now!);
      expect(await callSeen(store, now!)).toEqual(before.get(id));
    });
    expect(await store.lineage.resolve({ tag, id: 1_000_000 })).toBeNull();
    const functions = new Map((await store.registry.functions()).map((one) => [one.name, one]));
    await inGroups(ledger.calls, async ({ id, admission }) => {
      if (admission.idempotency === null) return;
      const versionId = functions.get(admission.functionName)!.current.id;
      const again = await store.queue.admit({ ...admission, versionId });
      expect(again).toMatchObject({ attached: true, callId: ids.get(id) });
    });
    await checkRuns(store, before, ids);
    const { documents } = store;
    // The highest revision was that of a document which is gone.
    const { revision } = (await documents.get('model', 'm'))!;
    const given = await documents.put({ kind: 'model', key: 'z', revision: null, value: 0 });
    expect(given).toBeGreaterThan(revision + 5);
    expect(await documents.put({ kind: 'model', key: 'm', revision, value: 1 })).toBe(given! + 1);
  });
};

/** Each row without an outcome runs, once; no other does. */
const checkRuns = async (store: Store, before: Filled['before'], ids: ReadonlyMap<number, number>) => {
  const leased = await drain(store);
  for (const [old, id] of ids) {
    const { parts } = before.get(old) as { parts: { state: string; from: number; count: number }[] };
    const open = parts
      .filter(({ state }) => state === 'pending')
      .flatMap(({ from, count }) => Array.from({ length: count }, (_, row) => from + row));
    const runs = (leased.get(id) ?? []).flatMap(({ from, count }) =>
      Array.from({ length: count }, (_, row) => from + row),
    );
    expect(runs.sort((a, b) => a - b)).toEqual(open);
  }
};

/** Cuts the migration off at the n-th step of the target, before or after it was done. */
const cutting = (n: number, isDone: boolean) => {
  let left = n;
  return (target: TransferTarget): TransferTarget =>
    new Proxy(target, {
      get: (object, name) => {
        const verb = Reflect.get(object, name) as unknown;
        if (typeof verb !== 'function') return verb;
        return async (...args: unknown[]) => {
          left -= 1;
          if (left === 0 && !isDone) throw new Error('cut off');
          const answer: unknown = await Reflect.apply(verb, object, args);
          if (left === 0) throw new Error('cut off');
          return answer;
        };
      },
    });
};

export const transferSuite = ({ name, from: makeFrom, to: makeTo }: Sides, numRuns: number): void => {
  const withSides = async (work: (from: Side, to: Side) => Promise<void>): Promise<void> => {
    const [from, to] = [await makeFrom(), await makeTo()];
    try {
      await work(from, to);
    } finally {
      await from.remove();
      await to.remove();
    }
  };

  describe(`a migration ${name}`, () => {
    it('moves whatever there is, under the ids that callers hold', async () => {
      const property = fc.asyncProperty(steps, (taken) =>
        withSides(async (from, to) => {
          const filled = await fill(from, async (ledger) => {
            for (const step of taken) await ledger.take(step);
          });
          const report = await migrate(from, to);
          expect(report.moved.calls).toBe(filled.ledger.calls.length);
          await check(to, filled);
        }),
      );
      await fc.assert(property, { numRuns });
    });

    it('keeps a call running that has run, and whose batch waits for a retry, there and back', () =>
      withSides(async (from, to) => {
        const home = await makeFrom();
        const shop = new Workshop(from);
        await shop.open();
        const id = await shop.admit(2);
        const batch = await shop.run([id, 0, 2]);
        const again = shop.continuation(batch.slices, { notBefore: START + 1_000_000 });
        await shop.settle(batch, [], [again]);
        const tag = tagOf(shop.queue.generation);
        await shop.close();
        const seen = (side: Side) =>
          served(side, async (store) => {
            const now = side === from ? id : (await store.lineage.resolve({ tag, id }))!;
            const { status, startedAt } = (await store.queue.call(now)) as Call;
            return { status, startedAt };
          });
        const before = await seen(from);
        await migrate(from, to);
        expect(await seen(to)).toEqual(before);
        await migrate(to, home);
        expect(await seen(home)).toEqual(before);
        await home.remove();
      }));

    it('goes on where it was cut off, and moves nothing twice', () =>
      withSides(async (from, to) => {
        const filled = await fill(from, async (ledger) => {
          const picks = Array.from({ length: 1100 }, (_, pick) => pick);
          await inGroups(picks, (pick) => ledger.admit(pick, 1 + (pick % 3), pick % 10 === 0 ? 300 : 0));
          for (let i = 0; i < 60; i += 1)
            for (const verb of ['seal', 'lease', 'settle']) await ledger.take({ verb, pick: i, size: i % 8 });
          for (let i = 0; i < 6; i += 1) await ledger.take({ verb: 'seal', pick: i, size: 3 });
        });
        // 1,100 calls are three chunks: arrive, the chunks, the batches, the documents, finish, open. Each run gets a little further.
        const cuts: [number, boolean][] = [
          [1, true],
          [2, false],
          [2, true],
          [3, true],
          [2, true],
          [3, false],
          [3, true],
          [4, true],
        ];
        for (const [step, isDone] of cuts) {
          await expect(migrate(from, to, cutting(step, isDone))).rejects.toThrow('cut off');
          await expect(from.open()).rejects.toThrow(/migration/);
        }
        expect((await migrate(from, to)).moved).toEqual({ calls: 0, batches: 0 });
        await expect(from.open()).rejects.toThrow(/moved/);
        await check(to, filled);
        expect((await migrate(from, to)).counts).toBeNull();
      }));

    it('refuses a target that holds something, and gives the source back', () =>
      withSides(async (from, to) => {
        const filled = await fill(from, (ledger) => ledger.admit(1, 2));
        await served(to, (store) =>
          store.keys.create({ now: START, name: 'k', scopes: ['admin'], secretHash: 'x', prefix: 'k' }),
        );
        await expect(migrate(from, to)).rejects.toThrow(/not empty/);
        await expect(from.open()).rejects.toThrow(/migration/);
        const [source, target] = [await from.source(), await to.target()];
        await expect(source.begin({ now: START, to: 'embedded:/elsewhere' })).rejects.toThrow(/on its way/);
        expect(await abandonTransfer(source, target, START)).toBe(true);
        await source.close();
        await target.close();
        await served(from, async (store) => expect(await registrySeen(store)).toEqual(filled.registry));
      }));

    it('comes back, and every id that was ever given still works', () =>
      withSides(async (there, here) => {
        const home = await makeFrom();
        const filled = await fill(there, async (ledger) => {
          for (let i = 0; i < 30; i += 1) {
            await ledger.admit(i, i % 4);
            for (const verb of ['seal', 'lease', 'settle']) await ledger.take({ verb, pick: i, size: i % 4 });
          }
        });
        await migrate(there, here);
        const tag = await served(here, async (store) => tagOf(store.queue.generation));
        const { id } = filled.ledger.calls[3]!;
        const between = await served(here, (store) => store.lineage.resolve({ tag: filled.tag, id }));
        await migrate(here, home);
        await check(home, filled);
        await served(home, async (store) => {
          const now = await store.lineage.resolve({ tag: filled.tag, id });
          expect(await store.lineage.resolve({ tag, id: between! })).toBe(now);
        });
        await home.remove();
      }));
  });
};
