/** The queue port on Redis: each verb is a script (scripts/NAME.lua) or a few of them, and this is the list of them. */
import { BugError } from '../../errors/sluice-error.ts';
import type {
  FreeSlots,
  LostListener,
  Offer,
  QueueStore,
  StoreEvents,
  Unwatch,
  WatchQuery,
} from '../ports/queue.ts';
import { Admissions } from './admissions.ts';
import { extend, lease, offer, release } from './batching.ts';
import { cancel, Expiry } from './call-ending.ts';
import { list } from './listing.ts';
import type { QueueContext } from './queue-context.ts';
import { call, open, result } from './reading.ts';
import { Seals } from './seals.ts';
import { Settles } from './settles.ts';

export interface QueueEvents {
  watch<K extends keyof StoreEvents>(
    query: WatchQuery<K>,
    listener: (event: StoreEvents[K]) => void,
    onLost?: LostListener,
  ): Unwatch;
  /** Slots that an answer told of, in the order of their messages. */
  hearSlots(free: FreeSlots, order: number): void;
}

/** While this machine's clock is off its workers have no slots; what they offered meanwhile counts once it is right. */
class Offers {
  readonly #context: QueueContext;
  /** The last of each worker and version, which a process has some of. */
  readonly #withheld = new Map<string, Offer>();

  constructor(context: QueueContext) {
    this.#context = context;
    context.clock.onRight(() => {
      const withheld = [...this.#withheld.values()];
      this.#withheld.clear();
      // What is refused comes again with a heartbeat.
      for (const asked of withheld) offer(context, asked).catch(() => undefined);
    });
  }

  async offer(asked: Offer): Promise<void> {
    const { clock } = this.#context;
    const key = `${asked.versionId} ${asked.workerId}`;
    this.#withheld.delete(key);
    if (clock.fault() === null || !(await clock.isOff())) return offer(this.#context, asked);
    const offered = { ...asked, now: clock.agreed(asked.now), until: clock.agreed(asked.until) };
    if (asked.idle + asked.prefetch > 0) this.#withheld.set(key, offered);
    return offer(this.#context, { ...offered, idle: 0, prefetch: 0 });
  }
}

/** `flush` sends what was asked so far and waits for the end of its tick. */
export const makeQueue = (
  context: QueueContext,
  events: QueueEvents,
): { queue: QueueStore; flush: () => void } => {
  const admissions = new Admissions(context);
  const expiry = new Expiry(context);
  const offers = new Offers(context);
  const seals = new Seals(context, (free, order) => events.hearSlots(free, order));
  const settles = new Settles(context);
  const grouped = [admissions, seals, settles];
  /**
   * What was asked first goes first: some verbs wait for the end of their tick, and go before those that come behind them. Large
   * payloads and outputs wait for their turn besides (large-turns.ts), and what is asked after them may pass them.
   */
  const flush = (own?: (typeof grouped)[number]): void => {
    for (const one of grouped) if (one !== own) one.flush();
  };
  const behind = <Q, A>(verb: (context: QueueContext, query: Q) => Promise<A>) => {
    return (query: Q): Promise<A> => {
      flush();
      return verb(context, query);
    };
  };
  const queue: QueueStore = {
    generation: context.generation,
    get durability() {
      return context.durability;
    },
    admit: (admission) => {
      flush(admissions);
      return admissions.admit(admission);
    },
    open: behind(open),
    offer: behind((_, asked) => offers.offer(asked)),
    seal: (request) => {
      flush(seals);
      return seals.seal(request);
    },
    // One whose clock is off takes no work, and extends what it holds by the time that was agreed.
    lease: behind(async ({ clock }, request) =>
      clock.fault() !== null && (await clock.isOff()) ? [] : lease(context, request),
    ),
    extend: behind(async ({ clock }, { now, ...held }) => {
      if (clock.fault() !== null) await clock.isOff();
      return extend(context, { ...held, now: clock.agreed(now) });
    }),
    release: behind(release),
    settle: (settlement) => {
      flush(settles);
      return settles.settle(settlement);
    },
    expired: behind((_, query) => expiry.expired(query)),
    call: behind(call),
    list: behind(list),
    watch: (query, listener, onLost) => {
      if (query.kind === 'call' && query.callId === undefined)
        throw new BugError('a watch of a call names no call');
      return events.watch(query, listener, onLost);
    },
    result: behind(result),
    cancel: behind(cancel),
  };
  return { queue, flush: () => flush() };
};
