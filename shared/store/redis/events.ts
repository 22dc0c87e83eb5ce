/**
 * What a client is told. Notifications are hints that may be lost; behind each stands something that can be read, and it
 * is read again by a slow poll and after every gap of the subscription:
 *
 *   hint            says                                     read again
 *   to-owner        waiting rows, slots of owned functions   the waiting list from where it was; the slots told last
 *   to-ready        a batch of a version is ready            versions with batches that stay ready from look to look
 *   to-calls        calls that advanced or finished          the watched calls, in turns
 *   to-ended        calls that were cancelled or expired     nothing: a late row is refused at its seal, lease or settle
 *   functions-…     a function was deployed or changed       when each was last changed, and how often calls of its moved
 */
import type { FreeSlots, LostListener, StoreEvents, Unwatch, WatchQuery } from '../ports/queue.ts';
import { CallWatches } from './call-watches.ts';
import type { Directory } from './directory.ts';
import { functionOfId, functionOfVersion, isFunctionNumber, serialOfId, versionIdOf } from './layout.ts';
import { type QueueContext, runScript } from './queue-context.ts';
import { openFunction } from './reading.ts';
import { pairsOf } from './store-context.ts';

/** Waiting calls read in one script: a millisecond or two. */
const PAGE_CALLS = 500;

type Listener = (event: never) => void;
type Owned = {
  /** Calls up to this number were told, or are the reader's of `open`. */
  seen: number;
  isOwned: boolean;
  /** Rises with each message, so that a poll which was overtaken tells nothing. */
  heard: number;
  /** Slots told last, and the order of that, by version. */
  readonly slots: Map<number, string>;
  readonly orders: Map<number, number>;
  readonly unsubscribe: () => void;
  /** Events come in the order of their hints. */
  chain: Promise<void>;
};
/** When a function was last changed, and how often calls of its moved to another version. */
type Changes = { readonly updated: string; readonly moves: string };
type Pulse = readonly [
  name: Buffer | null,
  updated: Buffer | null,
  moves: Buffer | null,
  told: readonly Buffer[],
  ready: readonly number[],
  order: number,
];

export class Events {
  readonly calls: CallWatches;
  readonly #context: QueueContext;
  readonly #directory: Directory;
  readonly #listeners = new Map<string, Set<Listener>>();
  /** Subscriptions that stand as long as anybody watches the kind. */
  readonly #channels = new Map<string, Promise<() => void>>();
  readonly #owned = new Map<number, Owned>();
  readonly #hearing = new Map<number, Promise<void>>();
  /** Turns of the newest ready batches at the last look, by version. */
  readonly #newestReady = new Map<number, number>();
  readonly #changes = new Map<number, Changes>();
  #pending = new Set<Promise<unknown>>();
  #isPolling = false;
  /** Whether `#changes` holds every function there was at the last look. */
  #knowsAll = false;

  constructor(context: QueueContext, directory: Directory) {
    this.#context = context;
    this.#directory = directory;
    this.calls = new CallWatches(context);
    context.link.subscriber.onGap(() => {
      context.announced.forgetAll();
      void this.catchUp();
    });
  }

  /** The functions whose buffers this client owns. */
  readonly owned = (): readonly number[] =>
    [...this.#owned].flatMap(([fn, { isOwned }]) => (isOwned ? [fn] : []));

  watch<K extends keyof StoreEvents>(
    { kind, callId, interest }: WatchQuery<K>,
    listener: (event: StoreEvents[K]) => void,
    onLost?: LostListener,
  ): Unwatch {
    if (kind === 'call') return this.calls.add(callId!, { listener: listener as never, interest, onLost });
    const listeners = this.#listeners.get(kind) ?? new Set();
    this.#listeners.set(kind, listeners);
    // A wrapper, so that the same function may be given twice.
    const entry: Listener = (event) => listener(event);
    listeners.add(entry);
    this.#openChannel(kind);
    return () => {
      if (!listeners.delete(entry) || listeners.size > 0) return;
      if (kind === 'ready') this.#context.announced.listen(false);
      void this.#channels.get(kind)?.then((close) => close());
      this.#channels.delete(kind);
    };
  }

  /** Ends when what is told of a function's buffer is heard. */
  async hear(fn: number): Promise<void> {
    if (this.#owned.has(fn)) return;
    let hearing = this.#hearing.get(fn);
    if (hearing === undefined) {
      hearing = this.#subscribeOwner(fn).finally(() => this.#hearing.delete(fn));
      this.#hearing.set(fn, hearing);
    }
    await hearing;
  }

  /** From now on waiting rows after call number `seen` are told. */
  own(fn: number, seen: number): void {
    const owned = this.#owned.get(fn);
    if (owned === undefined || owned.isOwned) return;
    owned.isOwned = true;
    owned.seen = seen;
    this.#follow(this.#pulse(fn, true));
  }

  disown(fn: number): void {
    this.#owned.get(fn)?.unsubscribe();
    this.#owned.delete(fn);
  }

  /** What the answer to a seal says of slots, whose message comes on another connection. */
  hearSlots({ versionId, idle, prefetch }: FreeSlots, order: number): void {
    const owned = this.#owned.get(functionOfVersion(versionId));
    if (owned?.isOwned !== true) return;
    owned.heard += 1;
    this.#tellSlots(owned, versionId, `${idle} ${prefetch}`, order);
  }

  unhearUnlessOwned(fn: number): void {
    if (this.#owned.get(fn)?.isOwned === false) this.disown(fn);
  }

  /** Looks again at everything that a lost message may have told; also the slow poll. */
  async catchUp(): Promise<void> {
    if (this.#isPolling) return;
    this.#isPolling = true;
    try {
      const watchesAll = this.#watched('ready') || this.#watched('functions');
      const fns = watchesAll ? await this.#directory.numbers() : this.owned();
      this.calls.lookAgain();
      await Promise.all(fns.map((fn) => this.#pulse(fn, false)));
      this.#knowsAll = watchesAll;
    } catch {
      // Redis does not answer; the next look is soon.
    } finally {
      this.#isPolling = false;
    }
  }

  /** Ends when everything that was heard has been told. */
  async settled(): Promise<void> {
    await Promise.all(this.#channels.values());
    while (this.#pending.size > 0) await Promise.allSettled(this.#pending);
    await this.calls.settled();
  }

  /** The data is lost: nothing that is watched will ever come. */
  lose(lost: StoreEvents['lost']): void {
    this.#tell('lost', lost);
  }

  close(): void {
    this.#listeners.clear();
    for (const fn of [...this.#owned.keys()]) this.disown(fn);
  }

  #watched(kind: string): boolean {
    return (this.#listeners.get(kind)?.size ?? 0) > 0;
  }

  #tell<K extends keyof StoreEvents>(kind: K, event: StoreEvents[K]): void {
    for (const listener of [...(this.#listeners.get(kind) ?? [])]) listener(event as never);
  }

  #openChannel(kind: keyof StoreEvents): void {
    if (this.#channels.has(kind)) return;
    const { link, layout, announced } = this.#context;
    const { subscriber } = link;
    if (kind === 'ready') {
      const opened = subscriber.addPattern(layout.channels('ready'), (text) => this.#hearReady(text));
      this.#channels.set(kind, opened);
      this.#follow(opened.then(() => announced.listen(true)));
    }
    if (kind === 'ended')
      this.#channels.set(
        kind,
        subscriber.addPattern(layout.channels('ended'), (text) =>
          this.#tell('ended', text.split(' ').map(Number)),
        ),
      );
    if (kind === 'functions') {
      const opened = subscriber.add(layout.store('functions-changed'), (name) =>
        this.#tell('functions', { name, hasMoved: false }),
      );
      this.#channels.set(kind, opened);
      // What changes from here on, and is not heard, is seen as a difference.
      this.#follow(opened.then(() => this.catchUp()));
    }
  }

  #hearReady(text: string): void {
    const [versionId, batches = 1] = text.split(' ').map(Number) as [number, number?];
    this.#context.announced.hear(versionId, batches);
    this.#tell('ready', { versionId });
  }

  async #subscribeOwner(fn: number): Promise<void> {
    const { link, layout } = this.#context;
    const close = await link.subscriber.add(layout.channel(fn, 'owner'), (text) => this.#hearOwner(fn, text));
    const chain = Promise.resolve();
    this.#owned.set(fn, {
      seen: 0,
      isOwned: false,
      heard: 0,
      slots: new Map(),
      orders: new Map(),
      unsubscribe: close,
      chain,
    });
  }

  #hearOwner(fn: number, text: string): void {
    const owned = this.#owned.get(fn);
    if (owned === undefined || !owned.isOwned) return;
    owned.heard += 1;
    const [kind, ...rest] = text.split(' ');
    this.#then(owned, async () => {
      if (kind === 'slots') this.#tellSlots(owned, Number(rest[0]), `${rest[1]} ${rest[2]}`, Number(rest[3]));
      else if (kind === 'moved') await this.#readMoved(fn, rest.map(Number));
      else await this.#readWaiting(fn, owned);
    });
  }

  #then(owned: Owned, work: () => Promise<void>): void {
    // What cannot be read now is read by the next poll; of calls that moved it tells that the function changed.
    owned.chain = owned.chain.then(work).catch(() => undefined);
    this.#follow(owned.chain);
  }

  #follow(work: Promise<unknown>): void {
    const done = work.catch(() => undefined).finally(() => this.#pending.delete(done));
    this.#pending.add(done);
  }

  #tellSlots(owned: Owned, versionId: number, slots: string, order: number): void {
    if (order <= (owned.orders.get(versionId) ?? 0)) return;
    owned.orders.set(versionId, order);
    owned.slots.set(versionId, slots);
    const [idle, prefetch] = slots.split(' ').map(Number) as [number, number];
    this.#tell('slots', { versionId, idle, prefetch });
  }

  async #readWaiting(fn: number, owned: Owned): Promise<void> {
    for (let more = true; more && owned.isOwned; ) {
      const page = await openFunction(this.#context, fn, {
        version: 0,
        after: owned.seen,
        limit: PAGE_CALLS,
      });
      const last = page.calls.at(-1);
      if (last !== undefined) {
        owned.seen = Math.max(owned.seen, serialOfId(last.callId));
        if (this.#owned.get(fn) === owned) this.#tell('waiting', page.calls);
      }
      if (page.next !== null) owned.seen = Math.max(owned.seen, page.next);
      more = page.next !== null;
    }
  }

  /** Waiting calls that went to another version keep their places. */
  async #readMoved(fn: number, ids: readonly number[]): Promise<void> {
    const wanted = new Set(ids);
    const last = Math.max(...ids.map(serialOfId));
    for (let after = Math.min(...ids.map(serialOfId)) - 1; after < last; ) {
      const page = await openFunction(this.#context, fn, { version: 0, after, limit: PAGE_CALLS });
      const moved = page.calls.filter(({ callId }) => wanted.has(callId));
      if (moved.length > 0) this.#tell('waiting', moved);
      if (page.next === null) return;
      after = page.next;
    }
  }

  /** One function's part of a poll. */
  async #pulse(fn: number, isNew: boolean): Promise<void> {
    if (!isFunctionNumber(fn)) return;
    const owned = this.#owned.get(fn);
    const heard = owned?.heard ?? 0;
    const [name, updated, moves, told, ready, order] = await runScript<Pulse>(
      this.#context,
      'pulse',
      fn,
      0,
      [],
    );
    if (owned?.isOwned === true) {
      if (owned.heard === heard) this.#compareSlots(fn, owned, told, order);
      if (!isNew) this.#then(owned, () => this.#readWaiting(fn, owned));
    }
    if (isNew) return;
    this.#noticeReady(fn, ready);
    const before = this.#changes.get(fn);
    const now: Changes = { updated: String(updated), moves: String(moves) };
    this.#changes.set(fn, now);
    if (name === null || (before === undefined && !this.#knowsAll)) return;
    const hasMoved = before?.moves !== now.moves;
    if (hasMoved || before?.updated !== now.updated)
      this.#tell('functions', { name: String(name), hasMoved });
  }

  /** Tells slots that differ from those told last. The order is the server's, also where a failover has set it back. */
  #compareSlots(fn: number, owned: Owned, told: readonly Buffer[], order: number): void {
    for (const [versionId, before] of owned.orders) owned.orders.set(versionId, Math.min(before, order));
    for (const [serial, slots] of pairsOf(told)) {
      const versionId = versionIdOf(fn, Number(serial));
      if ((owned.slots.get(versionId) ?? '0 0') === String(slots)) continue;
      owned.orders.delete(versionId);
      this.#tellSlots(owned, versionId, String(slots), order);
    }
  }

  /** What was ready at the last look already may have been heard of by nobody, and may have no job that anybody gets. */
  #noticeReady(fn: number, ready: readonly number[]): void {
    const { overdue, announced } = this.#context;
    const now = new Map<number, { oldest: number; newest: number }>();
    for (let at = 0; at < ready.length; at += 3)
      now.set(versionIdOf(fn, ready[at]!), { oldest: ready[at + 1]!, newest: ready[at + 2]! });
    for (const versionId of [...this.#newestReady.keys()])
      if (functionOfVersion(versionId) === fn && !now.has(versionId)) {
        this.#newestReady.delete(versionId);
        overdue.delete(versionId);
      }
    for (const [versionId, { oldest, newest }] of now) {
      const before = this.#newestReady.get(versionId);
      this.#newestReady.set(versionId, newest);
      if (before === undefined || oldest > before) {
        overdue.delete(versionId);
        continue;
      }
      overdue.set(versionId, before);
      announced.forget(versionId);
      this.#tell('ready', { versionId });
    }
  }
}

/** Whether a call may be of this store at all. */
export const isKnownFunction = (callId: number): boolean => isFunctionNumber(functionOfId(callId));
