/** A buffer that shares its store with others: a real store, whose coordination is a model and whose time is virtual. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { Buffer } from '../../../services/buffer/buffer.ts';
import type { FunctionSpec } from '../../../shared/domain/function.ts';
import { silentLog } from '../../../shared/runtime/log.ts';
import { openEmbeddedStore } from '../../../shared/store/embedded/index.ts';
import type { QueueStore } from '../../../shared/store/ports/queue.ts';
import type { Store } from '../../../shared/store/ports/store.ts';
import { LIMITS } from '../../contract/factory.ts';
import { specOf, Workshop } from '../../contract/workshop.ts';
import { VerbCount } from '../../sim/verb-count.ts';
import { VirtualTime } from '../../sim/virtual-time.ts';
import { SharedCoordination } from './shared-coordination.ts';

const SINGLE = { batching: { sizeRows: 1, durationMs: 5, bytesMax: 2 ** 20 } };
const SLOW = { batching: { sizeRows: 100, durationMs: 9000, bytesMax: 2 ** 20 } };

/** A shop, a buffer beside it, and what the buffer sealed: `NAME FENCE`. */
class Room {
  readonly time = new VirtualTime();
  readonly shared = new SharedCoordination();
  readonly sealed: string[] = [];
  readonly shop: Workshop;
  readonly #names = new Map<number, string>();
  #verbs!: VerbCount;

  private constructor(shop: Workshop) {
    this.shop = shop;
    this.shop.now = this.time.wall;
  }

  static async make(): Promise<Room> {
    const directory = mkdtempSync(path.join(tmpdir(), 'sluice-buffer-'));
    const shop = new Workshop({
      open: () => openEmbeddedStore({ ...LIMITS, directory, durability: 'memory' }),
      remove: async () => rmSync(directory, { recursive: true, force: true }),
    });
    await shop.open();
    onTestFinished(() => shop[Symbol.asyncDispose]());
    return new Room(shop);
  }

  /** A function, of single-row batches where nothing else is said, with a row that waits. */
  async add(name: string, policy: Partial<FunctionSpec> = SINGLE): Promise<number> {
    const versionId = await this.shop.deploy(specOf(name, policy));
    this.#names.set(versionId, name);
    this.shared.functions.add(name);
    await this.admit(name, versionId);
    return versionId;
  }

  async admit(name: string, versionId: number): Promise<void> {
    await this.shop.admit(1, { functionName: name, versionId });
  }

  /** `faults` wraps the queue that the buffer gets. Slots are offered when it watches. */
  async start(
    faults: (queue: QueueStore) => Partial<QueueStore> = () => ({}),
    offered: readonly number[] = [...this.#names.keys()],
  ): Promise<void> {
    const store = this.shop.server.connect();
    const seal: QueueStore['seal'] = (request) => {
      this.sealed.push(`${this.#names.get(request.versionId)} ${request.fence}`);
      return store.queue.seal(request);
    };
    const queue: QueueStore = { ...store.queue, seal, ...faults({ ...store.queue, seal }) };
    const { coordination } = this.shared.view(() => false);
    const whole: Store = { ...store, queue, coordination };
    this.#verbs = new VerbCount(whole);
    const buffer = new Buffer(this.#verbs.store, silentLog(), this.time.clocks);
    onTestFinished(() => buffer.stop());
    await buffer.start();
    for (const versionId of offered) {
      this.shop.versionId = versionId;
      await this.shop.offer(5);
    }
    await this.#quiet();
  }

  async pass(ms: number): Promise<void> {
    const end = this.time.now + ms;
    this.time.after(ms, () => undefined);
    while (this.time.now < end && this.time.step()) await this.#quiet();
  }

  async #quiet(): Promise<void> {
    for (let before = -1; before !== this.#verbs.asked || this.#verbs.open > 0; ) {
      before = this.#verbs.asked;
      await this.#verbs.store.counters();
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

const OTHER = { memberId: 'other', fence: 'theirs', until: Number.POSITIVE_INFINITY };

it('seals what it owns, with the fence of the ownership, and nothing of others', async () => {
  const room = await Room.make();
  await room.add('a');
  await room.add('b');
  room.shared.owners.set('b', OTHER);
  await room.start();
  const fenceOf = (name: string): string => room.shared.owners.get(name)!.fence;
  const first = `a ${fenceOf('a')}`;
  expect(room.sealed).toEqual([first]);
  room.shared.owners.delete('b');
  await room.pass(1000);
  expect(room.sealed).toEqual([first, `b ${fenceOf('b')}`]);
  expect(fenceOf('b')).not.toBe('theirs');
});

it('waits no longer for rows that it takes over than their first owner would have', async () => {
  const room = await Room.make();
  await room.add('a', SLOW);
  room.shared.owners.set('a', OTHER);
  await room.start();
  await room.pass(5000);
  room.shared.owners.delete('a');
  await room.pass(3000);
  expect(room.sealed).toEqual([]);
  await room.pass(1100);
  expect(room.sealed).toEqual([`a ${room.shared.owners.get('a')!.fence}`]);
});

it('drops a function at the first fenced seal, and reads its rows again when it owns it anew', async () => {
  const room = await Room.make();
  const versionId = await room.add('a');
  room.shared.owners.set('a', OTHER);
  await room.start((queue) => ({
    seal: async (request) => {
      const answer = await queue.seal({ ...request, slices: room.sealed.length === 0 ? [] : request.slices });
      if (room.sealed.length > 1) return answer;
      room.shared.owners.set('a', OTHER);
      return { ...answer, fenced: true, refused: [] };
    },
  }));
  room.shared.owners.delete('a');
  await room.pass(1000);
  expect(room.sealed).toHaveLength(1);
  await room.admit('a', versionId);
  await room.pass(3000);
  expect(room.sealed).toHaveLength(1);
  room.shared.owners.delete('a');
  await room.pass(1000);
  // The fenced row, and the one that came while another owned the function.
  expect(room.sealed).toHaveLength(3);
  expect(new Set(room.sealed.slice(1))).toEqual(new Set([`a ${room.shared.owners.get('a')!.fence}`]));
  expect(room.sealed[0]).not.toBe(room.sealed[1]);
});

it('finds rows whose notification was lost', async () => {
  const room = await Room.make();
  const versionId = await room.add('a');
  let isLost = false;
  await room.start((queue) => ({
    watch: (query, listener) =>
      queue.watch(query, (event) => {
        if (!isLost || query.kind !== 'waiting') listener(event);
      }),
  }));
  expect(room.sealed).toHaveLength(1);
  isLost = true;
  room.shop.now = room.time.wall;
  await room.admit('a', versionId);
  await room.pass(4000);
  expect(room.sealed).toHaveLength(1);
  await room.pass(3000);
  expect(room.sealed).toHaveLength(2);
});

it('finds rows that moved to another version unheard, although the version that lost them holds them still', async () => {
  const room = await Room.make();
  const old = await room.add('a');
  const next = await room.shop.deploy(specOf('a', { ...SINGLE, callTimeoutMs: 2000 }));
  await room.start(
    (queue) => ({
      watch: (query, listener) =>
        ['waiting', 'functions'].includes(query.kind) ? () => undefined : queue.watch(query, listener),
    }),
    [next],
  );
  const { registry } = room.shop.store;
  const { versions } = (await registry.function('a'))!;
  const [from, to] = [old, next].map((id) => versions.find((version) => version.id === id)!.digest);
  expect(await registry.repin({ now: room.shop.now, name: 'a', from: from!, to: to! })).toBe(1);
  await room.pass(4000);
  expect(room.sealed).toEqual([]);
  await room.pass(3000);
  expect(room.sealed).toHaveLength(1);
});

it('finds that a function goes on whose notification was lost', async () => {
  const room = await Room.make();
  await room.add('a');
  const { registry } = room.shop.store;
  const pause = (paused: boolean) => registry.update({ now: room.shop.now, name: 'a', update: { paused } });
  await pause(true);
  await room.start((queue) => ({
    watch: (query, listener) => (query.kind === 'functions' ? () => undefined : queue.watch(query, listener)),
  }));
  await pause(false);
  await room.pass(20_000);
  expect(room.sealed).toEqual([]);
  await room.pass(15_000);
  expect(room.sealed).toHaveLength(1);
});
