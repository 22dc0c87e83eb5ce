/**
 * Who waits for which call. A function's news are heard as long as somebody watches one of its calls, and for a while
 * after; each piece of news is a call's id, and the call is looked at then. Who waits for an end alone has it looked at when
 * it may have come, and the outputs that settle meanwhile are read ahead for who will want the result.
 */
import { isFinished } from '../../domain/call.ts';
import { IdMap } from '../../runtime/id-map.ts';
import { Slab } from '../../runtime/slab.ts';
import type { Admitted, CallEvent, LostListener, Unwatch, WatchQuery } from '../ports/queue.ts';
import { functionOfId, isFunctionNumber } from './layout.ts';
import type { QueueContext } from './queue-context.ts';
import { callEvent } from './reading.ts';
import { CallLostError } from './replies.ts';

/** Ids heard of before anybody watched them (an admission's answer may come after its call's end), and the reverse. */
const REMEMBERED_MAX = 65_536;
/** Calls looked at in one poll: their looks take some 50 ms of the server. */
const POLLED_MAX = 5000;
/** Looks at once: each may bring a mebibyte. */
const LOOKS_MAX = 256;
/** Polls for which a function without watches is still heard. */
const IDLE_POLLS_MAX = 10;

/** Bytes of outputs that are read ahead for calls which have not ended: half of what is kept of outputs at all. */
const AHEAD_BYTES_MAX = 32 * 2 ** 20;

type Interest = WatchQuery<'call'>['interest'];
type Watcher = {
  readonly listener: (event: CallEvent) => void;
  readonly interest: Interest;
  readonly onLost: LostListener | undefined;
};
type Watch = {
  readonly watchers: Set<Watcher>;
  aheadBytes: number;
  /** What was told last; what is not new is not told again. */
  told: string;
  isLooking: boolean;
  lookAgain: boolean;
};
type Channel = {
  readonly opened: Promise<() => void>;
  isOpen: boolean;
  idlePolls: number;
  watches: number;
};

const signatureOf = ({ status, counts }: Pick<CallEvent, 'status' | 'counts'>): string =>
  [isFinished(status) && status, counts.ok, counts.failed, counts.cancelled, counts.expired].join();
/** Of a call that nothing has happened to. */
const UNTOUCHED = signatureOf({
  status: 'pending',
  counts: { ok: 0, failed: 0, cancelled: 0, expired: 0 },
});

export class CallWatches {
  readonly #context: QueueContext;
  readonly #watches = new IdMap<Watch>();
  readonly #channels = new Map<number, Channel>();
  /** Calls that were told of, and calls that will be told of, while nobody watches them. */
  readonly #heard = new Set<number>();
  readonly #expected = new Set<number>();
  readonly #queue: number[] = [];
  readonly #pending = new Slab<Promise<unknown>>();
  #looks = 0;
  #aheadBytes = 0;
  #polled = 0;

  constructor(context: QueueContext) {
    this.#context = context;
  }

  /** Before an admission with `watch`: whether its news are heard from now on. */
  expectNews(fn: number): boolean {
    return this.#channel(fn).isOpen;
  }

  /** After it, where its news were heard since before: its watch needs no look unless something was heard. */
  expect({ callId, attached, status }: Admitted): void {
    if (!attached && !isFinished(status)) remember(this.#expected, callId);
  }

  /** @param watcher a new one each time */
  add(callId: number, watcher: Watcher): Unwatch {
    const fn = functionOfId(callId);
    if (!isFunctionNumber(fn)) return () => undefined;
    let watch = this.#watches.get(callId);
    if (watch === undefined) {
      watch = { watchers: new Set(), aheadBytes: 0, told: UNTOUCHED, isLooking: false, lookAgain: false };
      this.#watches.set(callId, watch);
      const channel = this.#channel(fn);
      channel.watches += 1;
      const isQuiet = this.#expected.delete(callId) && !this.#heard.has(callId);
      if (!isQuiet) this.#follow(channel.opened.then(() => this.#look(callId)));
    }
    watch.watchers.add(watcher);
    const kept = watch;
    return () => {
      if (kept.watchers.delete(watcher) && kept.watchers.size === 0) this.#drop(callId, kept);
    };
  }

  /** The slow poll: every watched call in turns; functions that nobody watches any more are left. */
  lookAgain(): void {
    for (const [fn, channel] of this.#channels) {
      channel.idlePolls = channel.watches > 0 ? 0 : channel.idlePolls + 1;
      if (channel.idlePolls <= IDLE_POLLS_MAX) continue;
      this.#channels.delete(fn);
      void channel.opened.then((close) => close());
    }
    const ids = [...this.#watches.keys()];
    const start = this.#polled < ids.length ? this.#polled : 0;
    const turn = ids.slice(start, start + POLLED_MAX);
    this.#polled = start + turn.length;
    for (const callId of turn) if (this.#watches.get(callId)?.isLooking === false) this.#look(callId);
  }

  async settled(): Promise<void> {
    while (this.#pending.size > 0) await Promise.all(this.#pending);
  }

  #channel(fn: number): Channel {
    const known = this.#channels.get(fn);
    if (known !== undefined) return known;
    const { link, layout } = this.#context;
    const opened = link.subscriber.add(layout.channel(fn, 'calls'), (text) => this.#hear(fn, text));
    const channel: Channel = { opened, isOpen: false, idlePolls: 0, watches: 0 };
    this.#channels.set(fn, channel);
    const noteOpen = (): void => {
      channel.isOpen = true;
    };
    this.#follow(opened.then(noteOpen));
    return channel;
  }

  #hear(fn: number, text: string): void {
    const { goOn, output, ids } = parseNews(text);
    for (const callId of ids) {
      const watch = this.#watches.get(callId);
      if (watch === undefined) {
        remember(this.#heard, callId);
        continue;
      }
      if (output !== null) this.#readAhead(fn, watch, output);
      if (!goOn || wants(watch, undefined)) this.#look(callId);
    }
  }

  #readAhead(fn: number, watch: Watch, { record, bytes }: News): void {
    if (!wants(watch, 'result') || this.#aheadBytes + bytes > AHEAD_BYTES_MAX) return;
    watch.aheadBytes += bytes;
    this.#aheadBytes += bytes;
    this.#context.outputs.ahead(fn, record);
  }

  #look(callId: number): void {
    const watch = this.#watches.get(callId);
    if (watch === undefined) return;
    if (watch.isLooking) {
      watch.lookAgain = true;
      return;
    }
    watch.isLooking = true;
    this.#queue.push(callId);
    this.#next();
  }

  #next(): void {
    while (this.#looks < LOOKS_MAX && this.#queue.length > 0) {
      this.#looks += 1;
      this.#follow(this.#lookNow(this.#queue.shift()!));
    }
  }

  async #lookNow(callId: number): Promise<void> {
    const watch = this.#watches.get(callId);
    // What Redis does not answer now is asked again by the poll.
    const event = watch && (await callEvent(this.#context, callId).catch(orLost));
    this.#looks -= 1;
    if (watch !== undefined && this.#watches.get(callId) === watch) {
      watch.isLooking = false;
      if (event instanceof CallLostError) this.#lose(callId, watch, event);
      else if (event !== undefined) this.#tell(callId, watch, event);
      if (watch.lookAgain) {
        watch.lookAgain = false;
        this.#look(callId);
      }
    }
    this.#next();
  }

  #tell(callId: number, watch: Watch, event: CallEvent): void {
    const signature = signatureOf(event);
    if (watch.told === signature) return;
    watch.told = signature;
    if (isFinished(event.status)) this.#drop(callId, watch);
    for (const { listener } of [...watch.watchers]) listener(event);
  }

  #lose(callId: number, watch: Watch, { code, message: detail }: CallLostError): void {
    this.#drop(callId, watch);
    for (const { onLost } of [...watch.watchers]) onLost?.({ code, detail });
  }

  #drop(callId: number, watch: Watch): void {
    if (this.#watches.get(callId) !== watch) return;
    this.#watches.delete(callId);
    this.#aheadBytes -= watch.aheadBytes;
    const channel = this.#channels.get(functionOfId(callId));
    if (channel !== undefined) channel.watches -= 1;
  }

  #follow(work: Promise<unknown>): void {
    const done = work.catch(() => undefined).finally(() => this.#pending.remove(key));
    const key = this.#pending.insert(done);
  }
}

type News = { readonly record: number; readonly bytes: number };

/** A message of `to-calls` (scripts/parts/ending.lua): `+` those that go on, `@RECORD:BYTES` an output of theirs, ids. */
const parseNews = (text: string) => {
  const words = text.split(' ');
  const goOn = words[0] === '+';
  const [, record, bytes] = /^@(\d+):(\d+)$/.exec(words[goOn ? 1 : 0] ?? '') ?? [];
  const output: News | null = record === undefined ? null : { record: Number(record), bytes: Number(bytes) };
  return { goOn, output, ids: words.slice(Number(goOn) + Number(output !== null)).map(Number) };
};

const orLost = (error: unknown): CallLostError | undefined =>
  error instanceof CallLostError ? error : undefined;

const wants = ({ watchers }: Watch, interest: Interest): boolean => {
  for (const one of watchers) if (one.interest === interest) return true;
  return false;
};

const remember = (ids: Set<number>, callId: number): void => {
  ids.add(callId);
  if (ids.size > REMEMBERED_MAX) ids.delete(ids.values().next().value!);
};
