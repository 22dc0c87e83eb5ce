/**
 * Waits for the end of calls: long polls, `Prefer: wait`, event streams. Each ends once: by the call's end or its loss, by
 * time, by the caller's disconnect (`cancel`, which cancels nothing of the call), by the drain of the server, or by
 * the loss of the store's data, after which no call ends any more.
 */
import { isFinished } from '../../shared/domain/call.ts';
import { SluiceError } from '../../shared/errors/sluice-error.ts';
import { Slab } from '../../shared/runtime/slab.ts';
import type { CallEvent, QueueStore, StoreEvents, Unwatch } from '../../shared/store/ports/queue.ts';
import { type Timeout, TimerWheel } from './timer-wheel.ts';

/** Waits of one thread at most: each holds a socket, and memory for its request, of some 10 KiB. */
const WAITS_MAX = 50_000;

/** null when the time is over or the server drains; an error where the call was lost. */
export type WaitEnd = (end: CallEvent | SluiceError | null) => void;

export class CallWait {
  readonly #waits: CallWaits;
  /** Its place among all waits. */
  readonly key: number;
  /**
   * What the wait holds is let go at its end: hash tables that V8 has moved to the old generation keep their dead entries
   * until the next full collection, and would keep each request with them (measured: 4 KB a request).
   */
  #done: WaitEnd | null;
  unwatch: Unwatch | null = null;
  timeout: Timeout | null = null;

  constructor(waits: CallWaits, all: Slab<CallWait>, done: WaitEnd) {
    this.#waits = waits;
    this.key = all.insert(this);
    this.#done = done;
  }

  end(end: CallEvent | SluiceError | null): void {
    const done = this.#done;
    if (this.cancel()) done!(end);
  }

  readonly lose = ({ code, detail }: StoreEvents['lost']): void => this.end(new SluiceError(code, detail));

  /** Frees everything; false when the wait was over already. */
  cancel(): boolean {
    if (this.#done === null) return false;
    this.#done = null;
    this.unwatch?.();
    this.#waits.forget(this);
    this.unwatch = null;
    this.timeout = null;
    return true;
  }
}

export class CallWaits {
  readonly #queue: QueueStore;
  readonly #wheel = new TimerWheel();
  readonly #waits = new Slab<CallWait>();
  #isDraining = false;
  #lost: SluiceError | null = null;

  constructor(queue: QueueStore) {
    this.#queue = queue;
  }

  get size(): number {
    return this.#waits.size;
  }

  /** Waits for the call's end, and mostly for its result. `done` never comes before this returns. */
  wait(callId: number, waitMs: number, done: WaitEnd, interest: 'end' | 'result' = 'result'): CallWait {
    this.check();
    const wait = new CallWait(this, this.#waits, done);
    if (this.#isDraining) {
      queueMicrotask(() => wait.end(null));
      return wait;
    }
    wait.timeout = this.#wheel.after(waitMs, () => wait.end(null));
    const onEvent = (event: CallEvent): void => {
      if (isFinished(event.status)) wait.end(event);
    };
    wait.unwatch = this.#queue.watch({ kind: 'call', callId, interest }, onEvent, wait.lose);
    return wait;
  }

  /** Tells of each advance; `done` at a drain or a loss. The follower ends itself with `cancel`. */
  follow(callId: number, onEvent: (event: CallEvent) => void, done: WaitEnd): CallWait {
    this.check();
    const wait = new CallWait(this, this.#waits, done);
    wait.unwatch = this.#queue.watch({ kind: 'call', callId }, onEvent, wait.lose);
    if (this.#isDraining) queueMicrotask(() => wait.end(null));
    return wait;
  }

  get lost(): SluiceError | null {
    return this.#lost;
  }

  /** @throws SluiceError what `lose` was told */
  checkKept(): void {
    if (this.#lost !== null) throw this.#lost;
  }

  /** @throws SluiceError `queue_full`, what `lose` was told */
  check(): void {
    this.checkKept();
    if (this.#waits.size < WAITS_MAX) return;
    throw new SluiceError('queue_full', `${WAITS_MAX} requests wait on this server already; poll instead.`, {
      retry_after_seconds: 1,
    });
  }

  forget(wait: CallWait): void {
    this.#waits.remove(wait.key);
    if (wait.timeout !== null) this.#wheel.cancel(wait.timeout);
  }

  /** Nothing that is waited for will come: every wait ends now, and whoever asks is told why. */
  lose({ code, detail }: StoreEvents['lost']): void {
    this.#lost ??= new SluiceError(code, detail);
    for (const wait of [...this.#waits]) wait.end(null);
  }

  /** Every wait is answered with what is known now; later ones do not begin. */
  drain(): void {
    this.#isDraining = true;
    for (const wait of [...this.#waits]) wait.end(null);
    this.#wheel.stop();
  }
}
