/** The buffer on a real store: which waiting rows it seals, and what it does when the store refuses. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { Buffer } from '../../../services/buffer/buffer.ts';
import { WINDOW_CALLS } from '../../../services/buffer/window.ts';
import type { Batching } from '../../../shared/domain/function.ts';
import { silentLog } from '../../../shared/runtime/log.ts';
import { openEmbeddedStore } from '../../../shared/store/embedded/index.ts';
import type { FunctionUpdate } from '../../../shared/store/ports/registry.ts';
import type { Store } from '../../../shared/store/ports/store.ts';
import { LIMITS } from '../../contract/factory.ts';
import { specOf, Workshop } from '../../contract/workshop.ts';

const SINGLE: Batching = { sizeRows: 1, durationMs: 5, bytesMax: 2 ** 20 };
const CLOCKS = {
  wall: () => Date.now(),
  preciseWall: () => Date.now(),
  monotonic: () => performance.now(),
  after: (ms: number, work: () => void) => {
    const timer = setTimeout(work, ms);
    return () => clearTimeout(timer);
  },
};

const makeShop = async (): Promise<Workshop> => {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-buffer-'));
  const shop = new Workshop({
    open: () => openEmbeddedStore({ ...LIMITS, directory, durability: 'memory' }),
    remove: async () => rmSync(directory, { recursive: true, force: true }),
  });
  await shop.open();
  onTestFinished(() => shop[Symbol.asyncDispose]());
  shop.now = Date.now();
  return shop;
};

const startBuffer = async (store: Store): Promise<void> => {
  const buffer = new Buffer(store, silentLog(), CLOCKS);
  onTestFinished(() => buffer.stop());
  await buffer.start();
};

/** Leases the next batch when it is ready, settles it and offers the slot again; the answer is its first call. */
const runNext = async (shop: Workshop): Promise<number> => {
  for (;;) {
    const ready = Promise.withResolvers<void>();
    const unwatch = shop.queue.watch({ kind: 'ready' }, () => ready.resolve());
    const [batch] = await shop.lease();
    if (batch === undefined) await ready.promise;
    unwatch();
    if (batch === undefined) continue;
    await shop.settleOk(batch);
    await shop.offer(1);
    return batch.slices[0]!.callId;
  }
};

it('seals calls that a repin moved behind newer ones, though the old version has no worker', async () => {
  const shop = await makeShop();
  const from = await shop.deploy(specOf('f', { batching: SINGLE }));
  shop.versionId = from;
  const old = await shop.admit(1);
  shop.versionId = await shop.deploy(specOf('f', { batching: SINGLE, callTimeoutMs: 2000 }));
  await startBuffer(shop.server.connect());
  await shop.offer(1);
  const late = await shop.admit(1);
  expect(await runNext(shop)).toBe(late);
  const { versions } = (await shop.store.registry.function('f'))!;
  const digestOf = (id: number): string => versions.find((version) => version.id === id)!.digest;
  const moved = { now: shop.now, name: 'f', from: digestOf(from), to: digestOf(shop.versionId) };
  expect(await shop.store.registry.repin(moved)).toBe(1);
  expect(await runNext(shop)).toBe(old);
});

it('reads waiting rows again when the store refuses to show them, before a seal and after one', async () => {
  const shop = await makeShop();
  shop.versionId = await shop.deploy(specOf('f', { batching: SINGLE }));
  const calls = [await shop.admit(1), await shop.admit(1)];
  const store = shop.server.connect();
  let asked = 0;
  const open: typeof store.queue.open = async (query) => {
    if (query.versionId !== shop.versionId) return store.queue.open(query);
    asked += 1;
    if (asked === 1) return store.queue.open({ ...query, limit: 1 });
    if (asked <= 3) throw new Error('the disk is full');
    return store.queue.open(query);
  };
  await startBuffer({ ...store, queue: { ...store.queue, open } });
  await shop.offer(1);
  expect([await runNext(shop), await runNext(shop)]).toEqual(calls);
  expect(asked).toBeGreaterThanOrEqual(4);
});

it('reads what waits once, however often its function changes, and a new version for itself', async () => {
  const shop = await makeShop();
  shop.versionId = await shop.deploy(specOf('f', { batching: SINGLE }));
  const { versionId } = shop;
  const call = await shop.admit(1);
  const store = shop.server.connect();
  const asked = new Map<number | null, number>();
  const open: typeof store.queue.open = (query) => {
    asked.set(query.versionId, (asked.get(query.versionId) ?? 0) + 1);
    return store.queue.open(query);
  };
  await startBuffer({ ...store, queue: { ...store.queue, open } });
  const change = (update: FunctionUpdate) => shop.store.registry.update({ now: shop.now, name: 'f', update });
  for (const paused of [true, false, true]) await change({ paused });
  await change({ batching: { sizeRows: 2 } });
  const newer = await shop.deploy(specOf('f', { batching: SINGLE, callTimeoutMs: 2000 }));
  shop.versionId = newer;
  await shop.offer(1);
  shop.versionId = versionId;
  await shop.offer(1);
  await change({ paused: false });
  // The old version has no worker but this one: what waits there is drained.
  expect(await runNext(shop)).toBe(call);
  expect([asked.get(versionId), asked.get(newer)]).toEqual([1, 1]);
});

it('reads on when what filled its window was cancelled', async () => {
  const shop = await makeShop();
  shop.versionId = await shop.deploy(specOf('f', { batching: SINGLE }));
  const behind = await shop.admit(1);
  const store = shop.server.connect();
  // More calls than a window holds, all before the first one that the store knows.
  const [shown] = (await store.queue.open({ versionId: shop.versionId, after: 0, limit: 1 })).calls;
  const many = Array.from({ length: WINDOW_CALLS }, (_, n) => ({ ...shown!, callId: (n + 1) / 2 ** 20 }));
  const open: typeof store.queue.open = async (query) =>
    query.versionId === shop.versionId && query.after === 0
      ? { calls: many, next: many.at(-1)!.callId }
      : store.queue.open(query);
  let cancel: (calls: readonly number[]) => void = () => undefined;
  const watch = ((query, listener) => {
    if (query.kind === 'ended') cancel = listener as never;
    return store.queue.watch(query, listener);
  }) satisfies typeof store.queue.watch;
  await startBuffer({ ...store, queue: { ...store.queue, open, watch } });
  cancel(many.map(({ callId }) => callId));
  await shop.offer(1);
  expect(await runNext(shop)).toBe(behind);
});
