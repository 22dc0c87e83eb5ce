/** Who listens in this client. The thread is told of the first listener of a kind or call, and of the last one's leaving. */

import { type CallStatus, isFinished } from '../../domain/call.ts';
import { IdMap } from '../../runtime/id-map.ts';
import type { CallEvent, StoreEvents, Unwatch, WatchQuery } from '../ports/queue.ts';
import type { EventMessage } from './messages.ts';
import { unpackCalls, unpackEvent } from './packers.ts';

/** Admitted with `watch` and not watched yet: some ticks of the fastest admission; more are watched by a message. */
const AWAITED_MAX = 65_536;

type Tell = (verb: 'watch' | 'unwatch', args: { readonly kind: string; readonly callId?: number }) => void;
type Listener = (event: never) => void;

export class Subscriptions {
  readonly #tell: Tell;
  readonly #kinds = new Map<string, Set<Listener>>();
  readonly #calls = new IdMap<Listener[]>();
  /** Calls admitted with `watch` that nobody listens to yet, with their latest event. */
  readonly #awaited = new IdMap<CallEvent | null>();

  constructor(tell: Tell) {
    this.#tell = tell;
  }

  add<K extends keyof StoreEvents>(query: WatchQuery<K>, listener: (event: StoreEvents[K]) => void): Unwatch {
    const { kind, callId } = query;
    if (kind === 'call') return this.#addCall(callId ?? 0, listener as Listener);
    let listeners = this.#kinds.get(kind);
    if (listeners === undefined) {
      listeners = new Set();
      this.#kinds.set(kind, listeners);
      this.#tell('watch', { kind });
    }
    // A wrapper, so that the same function may be given twice.
    const entry: Listener = (event) => listener(event);
    listeners.add(entry);
    return () => {
      if (!listeners.delete(entry) || listeners.size > 0 || this.#kinds.get(kind) !== listeners) return;
      this.#kinds.delete(kind);
      this.#tell('unwatch', { kind });
    };
  }

  /** The thread watches this call for us since its admission. */
  expect(callId: number): void {
    if (this.#calls.has(callId)) return;
    this.#awaited.set(callId, null);
    if (this.#awaited.size <= AWAITED_MAX) return;
    const oldest = this.#awaited.keys().next().value!;
    this.#awaited.delete(oldest);
    this.#tell('unwatch', { kind: 'call', callId: oldest });
  }

  deliver(events: readonly EventMessage[]): void {
    for (const event of events) {
      if (event.kind === 'calls') for (const one of unpackCalls(event.value)) this.#deliverCall(one);
      else {
        const value = unpackEvent(event);
        for (const listener of [...(this.#kinds.get(event.kind) ?? [])]) listener(value as never);
      }
    }
  }

  #addCall(callId: number, listener: Listener): Unwatch {
    let listeners = this.#calls.get(callId);
    const early = this.#awaited.get(callId);
    if (listeners === undefined) {
      listeners = [];
      this.#calls.set(callId, listeners);
      if (early === undefined) this.#tell('watch', { kind: 'call', callId });
      this.#awaited.delete(callId);
    }
    const entry: Listener = (event) => listener(event);
    listeners.push(entry);
    if (early != null) queueMicrotask(() => this.#deliverCall(early));
    return () => {
      const at = listeners.indexOf(entry);
      if (at < 0) return;
      listeners.splice(at, 1);
      if (listeners.length > 0 || this.#calls.get(callId) !== listeners) return;
      this.#calls.delete(callId);
      this.#tell('unwatch', { kind: 'call', callId });
    };
  }

  #deliverCall(event: CallEvent): void {
    const listeners = this.#calls.get(event.callId);
    if (listeners === undefined) {
      if (this.#awaited.has(event.callId)) this.#awaited.set(event.callId, event);
      return;
    }
    // The thread forgets a watch with its call's end.
    if (isFinished(event.status satisfies CallStatus)) this.#calls.delete(event.callId);
    for (const listener of [...listeners]) listener(event as never);
  }
}
