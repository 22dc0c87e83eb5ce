/**
 * The waiting rows of one function version, as far as they are held in memory: a batcher for each schema, fed from
 * the store front to back. At most `WINDOW_CALLS` calls are held; the rest stays in the store until there is room.
 *
 *   loading ──(page without `next`)──► complete: new `waiting` events are appended
 *      ▲                                   │ full
 *      └──────(half empty: next page)── cut: events are ignored, the store's pages hold them
 *
 * An event that comes after the last page is new, or known already. Where answers and notifications travel apart, one
 * may come before the page that was read before it: such a page is not the last one.
 */
import type { Batching, FunctionVersion } from '../../shared/domain/function.ts';
import type { QueueStore, WaitingCall } from '../../shared/store/ports/queue.ts';
import { Batcher, type TakenBatch } from './batcher.ts';

/** About 40 MB of entries; several hundred full batches of single-row calls ahead of any worker. */
export const WINDOW_CALLS = 200_000;
/** Read at once: some milliseconds of the store, in which all others wait (20,000 were 50 to 140 ms of Redis). */
const PAGE_CALLS = 2000;

export type Clocks = {
  /** Whole milliseconds since the epoch. */
  readonly wall: () => number;
  /** The same with its fraction. */
  readonly preciseWall: () => number;
  /** Milliseconds that never go back. */
  readonly monotonic: () => number;
  /** Runs `work` once after `ms`; the answer cancels it. */
  readonly after: (ms: number, work: () => void) => () => void;
};

export class Window {
  readonly versionId: number;
  #batching: Batching;
  #queue: QueueStore;
  #clocks: Clocks;
  #batchers = new Map<string, Batcher>();
  #cursor = 0;
  /** The newest call that was told of while pages were read. */
  #told = 0;
  #complete = false;
  #loading = false;
  #draining = false;
  #epoch = 0;

  constructor(version: FunctionVersion, queue: QueueStore, clocks: Clocks) {
    this.versionId = version.id;
    this.#batching = version.spec.batching;
    this.#queue = queue;
    this.#clocks = clocks;
  }

  get calls(): number {
    let calls = 0;
    for (const batcher of this.#batchers.values()) calls += batcher.calls;
    return calls;
  }

  get rows(): number {
    let rows = 0;
    for (const batcher of this.#batchers.values()) rows += batcher.rows;
    return rows;
  }

  get loading(): boolean {
    return this.#loading;
  }

  /** True when all that waits in the store is held here. */
  get complete(): boolean {
    return this.#complete;
  }

  update(batching: Batching, draining: boolean): void {
    this.#batching = batching;
    this.#draining = draining;
    for (const batcher of this.#batchers.values()) {
      batcher.update(batching);
      batcher.drain(draining);
    }
  }

  /** Forgets everything and reads it again from the store. */
  async reload(): Promise<void> {
    this.#epoch += 1;
    this.#batchers.clear();
    this.#cursor = 0;
    this.#told = 0;
    this.#complete = false;
    this.#loading = false;
    await this.fill();
  }

  /** Reads pages while there is room. A later `reload` makes a running `fill` stop. */
  async fill(): Promise<void> {
    if (this.#complete || this.#loading || this.calls > WINDOW_CALLS / 2) return;
    this.#loading = true;
    const epoch = this.#epoch;
    try {
      while (!this.#complete && this.calls < WINDOW_CALLS) {
        const told = this.#told;
        const page = await this.#queue.open({
          versionId: this.versionId,
          after: this.#cursor,
          limit: PAGE_CALLS,
        });
        if (epoch !== this.#epoch) return;
        for (const call of page.calls) this.#add(call);
        this.#complete = page.next === null && (this.#told <= this.#cursor || this.#told === told);
        if (page.next !== null) this.#cursor = page.next;
      }
    } finally {
      if (epoch === this.#epoch) this.#loading = false;
    }
  }

  /** New rows that the store told of. */
  append(call: WaitingCall): void {
    if (call.callId <= this.#cursor) {
      this.#insert(call);
      return;
    }
    if (!this.#complete) {
      if (this.#loading) this.#told = call.callId;
      return;
    }
    if (this.calls >= WINDOW_CALLS) {
      this.#complete = false;
      return;
    }
    this.#add(call);
  }

  /** An older call that comes from another version (repin): no later page holds it. */
  #insert(call: WaitingCall): void {
    if (this.calls < WINDOW_CALLS) {
      this.#hold(call);
      return;
    }
    this.#epoch += 1;
    this.#loading = false;
    this.#complete = false;
    this.#cursor = call.callId - 1;
  }

  drop(callId: number): void {
    for (const batcher of this.#batchers.values()) batcher.drop(callId);
  }

  /** When the oldest call that is held arrived (monotonic); null when none is. */
  oldestAt(): number | null {
    let oldest: number | null = null;
    for (const batcher of this.#batchers.values()) {
      const at = batcher.oldestAt();
      if (at !== null && (oldest === null || at < oldest)) oldest = at;
    }
    return oldest;
  }

  /** The earliest time (monotonic) at which a batch is due by age. */
  nextDeadline(): number | null {
    let next: number | null = null;
    for (const batcher of this.#batchers.values()) {
      const deadline = batcher.nextDeadline();
      if (deadline !== null && (next === null || deadline < next)) next = deadline;
    }
    return next;
  }

  /** The next due batch, that of the schema with the oldest row first; `fullOnly` leaves part-full batches to fill. */
  take(now: number, fullOnly: boolean): TakenBatch | null {
    let best: Batcher | null = null;
    let bestAt = Number.POSITIVE_INFINITY;
    for (const [key, batcher] of this.#batchers) {
      const oldestAt = batcher.oldestAt();
      if (oldestAt === null) {
        if (this.#batchers.size > 64) this.#batchers.delete(key);
        continue;
      }
      const ready = fullOnly ? batcher.full(now) : batcher.due(now) !== null;
      if (ready && oldestAt < bestAt) [best, bestAt] = [batcher, oldestAt];
    }
    return best?.take(now) ?? null;
  }

  #add(call: WaitingCall): void {
    if (call.callId <= this.#cursor) return;
    this.#cursor = call.callId;
    this.#hold(call);
  }

  #hold(call: WaitingCall): void {
    let batcher = this.#batchers.get(call.schemaKey);
    if (!batcher) {
      batcher = new Batcher(this.#batching);
      batcher.drain(this.#draining);
      this.#batchers.set(call.schemaKey, batcher);
    }
    const end = call.from + call.rows;
    // As old as it may be, since its wait has a maximum: `arrivedAt` lacks its fraction of a millisecond.
    const age = Math.max(0, this.#clocks.preciseWall() - call.arrivedAt);
    batcher.add({
      callId: call.callId,
      from: call.from,
      end,
      rowBytes: end === 0 ? 0 : Math.ceil(call.bytes / end),
      arrivedAt: this.#clocks.monotonic() - age,
    });
  }
}
