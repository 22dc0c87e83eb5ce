/** The queue port on Redis: each verb is a script (scripts/NAME.lua) or a few of them, and this is the list of them. */
import { BugError } from '../../errors/sluice-error.ts';
import type { FreeSlots, QueueStore, StoreEvents, Unwatch, WatchQuery } from '../ports/queue.ts';
import { Admissions } from './admissions.ts';
import { extend, lease, offer, release, settle } from './batching.ts';
import { cancel, Expiry } from './call-ending.ts';
import { list } from './listing.ts';
import type { QueueContext } from './queue-context.ts';
import { call, open, result } from './reading.ts';
import { Seals } from './seals.ts';

export interface QueueEvents {
  watch<K extends keyof StoreEvents>(
    query: WatchQuery<K>,
    listener: (event: StoreEvents[K]) => void,
  ): Unwatch;
  /** Slots that an answer told of, in the order of their messages. */
  hearSlots(free: FreeSlots, order: number): void;
}

export const makeQueue = (context: QueueContext, events: QueueEvents): QueueStore => {
  const admissions = new Admissions(context);
  const expiry = new Expiry(context);
  /** Then this client takes no work, and what it holds is extended by the server's time. */
  const isOff = (): boolean => context.clock.fault() !== null;
  const seals = new Seals(context, (free, order) => events.hearSlots(free, order));
  /**
   * What was asked first goes first: admissions and seals wait for the end of their tick. Large payloads and outputs wait for their turn
   * besides (large-turns.ts), and what is asked after them may pass them.
   */
  const behind = <Q, A>(verb: (context: QueueContext, query: Q) => Promise<A>) => {
    return (query: Q): Promise<A> => {
      admissions.flush();
      seals.flush();
      return verb(context, query);
    };
  };
  return {
    generation: context.generation,
    get durability() {
      return context.durability;
    },
    admit: (admission) => {
      seals.flush();
      return admissions.admit(admission);
    },
    open: behind(open),
    offer: behind(async (_, asked) => offer(context, isOff() ? { ...asked, idle: 0, prefetch: 0 } : asked)),
    seal: (request) => {
      admissions.flush();
      return seals.seal(request);
    },
    lease: behind(async (_, request) => (isOff() ? [] : lease(context, request))),
    extend: behind((_, { now, ...held }) => extend(context, { ...held, now: context.clock.byServer(now) })),
    release: behind(release),
    settle: behind(settle),
    expired: behind((_, query) => expiry.expired(query)),
    call: behind(call),
    list: behind(list),
    watch: (query, listener) => {
      if (query.kind === 'call' && query.callId === undefined)
        throw new BugError('a watch of a call names no call');
      return events.watch(query, listener);
    },
    result: behind(result),
    cancel: behind(cancel),
  };
};
