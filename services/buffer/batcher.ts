/**
 * The batcher: one pure state machine for the waiting rows of one function version and one schema. It owns no timer
 * and no clock; times are monotonic milliseconds that the caller gives.
 *
 *   add ─► queue (calls in order of arrival, each with its waiting tail) ─ due(now)? ─ take(now) ─► slices of a batch
 *
 * Nothing is sealed before `take`, so that until a worker slot asks, a due batch goes on filling and `drop` still
 * reaches its rows. Rows leave front to back, call by call: the store relies on it (a call's waiting rows are its tail).
 */
import type { SealReason, Slice } from '../../shared/domain/call.ts';
import type { Batching } from '../../shared/domain/function.ts';
import { IdMap } from '../../shared/runtime/id-map.ts';

/**
 * Rows at which an unbuffered call is cut: at 60 characters a row this is under a MiB of input, and a handler that
 * asked for no batching gets most calls whole.
 */
export const CALL_SAFETY_ROWS = 10_000;

export type BatcherEntry = {
  readonly callId: number;
  /** First waiting row and the end of the call's rows. */
  readonly from: number;
  readonly end: number;
  readonly rowBytes: number;
  /** Monotonic milliseconds. */
  readonly arrivedAt: number;
};

export type TakenBatch = {
  readonly slices: readonly Slice[];
  readonly rows: number;
  readonly reason: SealReason;
  /** Arrival of the oldest row in it. */
  readonly oldestAt: number;
};

type Waiting = { callId: number; from: number; end: number; rowBytes: number; arrivedAt: number };

export class Batcher {
  #batching: Batching;
  /** A queue with a moving head; entries of dropped calls are emptied in place (from = end) and skipped. */
  #queue: Waiting[] = [];
  #head = 0;
  readonly #byCall = new IdMap<Waiting>();
  #rows = 0;
  #bytes = 0;
  /** Set for a version that gets no new rows: what waits is due at once. */
  #draining = false;

  constructor(batching: Batching) {
    this.#batching = batching;
  }

  get rows(): number {
    return this.#rows;
  }

  get calls(): number {
    return this.#byCall.size;
  }

  /** Live limits apply from the next batch on. */
  update(batching: Batching): void {
    this.#batching = batching;
  }

  drain(draining: boolean): void {
    this.#draining = draining;
  }

  add(entry: BatcherEntry): void {
    if (entry.from >= entry.end || this.#byCall.has(entry.callId)) return;
    const waiting = { ...entry };
    this.#queue.push(waiting);
    this.#byCall.set(entry.callId, waiting);
    this.#count(waiting, 1);
  }

  /** Takes a cancelled or expired call out. */
  drop(callId: number): void {
    const waiting = this.#byCall.get(callId);
    if (!waiting) return;
    this.#count(waiting, -1);
    waiting.from = waiting.end;
    this.#byCall.delete(callId);
    this.#skipEmpty();
  }

  clear(): void {
    this.#queue = [];
    this.#head = 0;
    this.#byCall.clear();
    this.#rows = 0;
    this.#bytes = 0;
  }

  /** Why a batch could be sealed at `now`, or null. */
  due(now: number): SealReason | null {
    const oldest = this.#queue[this.#head];
    if (!oldest) return null;
    const { sizeRows, bytesMax, durationMs } = this.#batching;
    if (sizeRows === null) return 'call';
    if (this.#rows >= sizeRows) return 'size';
    if (this.#bytes >= bytesMax) return 'bytes';
    if (this.#draining) return 'drain';
    return now >= oldest.arrivedAt + durationMs ? 'age' : null;
  }

  /** Due for another reason than age: such a batch would not become fuller by waiting. */
  full(now: number): boolean {
    const reason = this.due(now);
    return reason !== null && reason !== 'age' && reason !== 'drain';
  }

  /** When the oldest row's age makes a batch due; null when nothing waits. Already past when a batch is due. */
  nextDeadline(): number | null {
    const oldest = this.#queue[this.#head];
    if (!oldest) return null;
    if (this.#batching.sizeRows === null || this.#draining) return oldest.arrivedAt;
    return oldest.arrivedAt + this.#batching.durationMs;
  }

  oldestAt(): number | null {
    return this.#queue[this.#head]?.arrivedAt ?? null;
  }

  /** Composes the next batch and removes its rows; null when none is due. */
  take(now: number): TakenBatch | null {
    const due = this.due(now);
    const oldest = this.#queue[this.#head];
    if (!due || !oldest) return null;
    const { sizeRows, bytesMax } = this.#batching;
    const oldestAt = oldest.arrivedAt;
    const slices: Slice[] = [];
    const limitRows = sizeRows ?? CALL_SAFETY_ROWS;
    let [rows, bytes] = [0, 0];
    for (let next = this.#peek(); next && rows < limitRows; next = this.#peek()) {
      const count = this.#fitting(next, limitRows - rows, bytesMax - bytes, rows === 0);
      if (count === 0) break;
      slices.push({ callId: next.callId, from: next.from, count });
      rows += count;
      bytes += count * next.rowBytes;
      this.#advance(next, count);
      if (due === 'call') break;
    }
    return { slices, rows, reason: reasonOf(due, rows, limitRows, this.#rows > 0), oldestAt };
  }

  /** Rows of `next` that fit; a single row above the byte limit goes alone. */
  #fitting(next: Waiting, rowsLeft: number, bytesLeft: number, first: boolean): number {
    if (bytesLeft < 0) return 0;
    const byBytes = next.rowBytes > 0 ? Math.floor(bytesLeft / next.rowBytes) : rowsLeft;
    const count = Math.min(next.end - next.from, rowsLeft, byBytes);
    return count <= 0 ? (first ? 1 : 0) : count;
  }

  #peek(): Waiting | undefined {
    return this.#queue[this.#head];
  }

  #advance(waiting: Waiting, count: number): void {
    waiting.from += count;
    this.#rows -= count;
    this.#bytes -= count * waiting.rowBytes;
    if (waiting.from < waiting.end) return;
    this.#byCall.delete(waiting.callId);
    this.#skipEmpty();
  }

  #count(waiting: Waiting, sign: 1 | -1): void {
    const rows = waiting.end - waiting.from;
    this.#rows += sign * rows;
    this.#bytes += sign * rows * waiting.rowBytes;
  }

  #skipEmpty(): void {
    for (let next = this.#peek(); next && next.from >= next.end; next = this.#peek()) this.#head += 1;
    // The emptied front is cut when it is most of the array, so that the cost stays constant per entry.
    if (this.#head > 1024 && this.#head * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
    if (this.#byCall.size === 0) this.clear();
  }
}

/** A batch that was due by age may have been cut by size or bytes meanwhile; the reason that is kept is what cut it. */
const reasonOf = (due: SealReason, rows: number, limitRows: number, moreWaits: boolean): SealReason => {
  if (due === 'call') return 'call';
  if (rows >= limitRows) return 'size';
  if (moreWaits) return 'bytes';
  return due === 'size' ? 'bytes' : due;
};
