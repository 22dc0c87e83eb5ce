/** Who is told what: the events of a commit, sent to the ports that watch. */
import type { Ledger } from './ledger.ts';
import type { CallEventsMessage, EventMessage } from './messages.ts';
import { type LiveCall, PART, PART_WIDTH } from './model.ts';
import type { ClientPort, Finished } from './outbox.ts';
import { freeSlots } from './slots.ts';
import { type DoneRow, liveStatus, PartReader, partsOfDone } from './views.ts';

/** Results up to this many output bytes travel with the event; larger ones are read by pages. */
const EVENT_BYTES_MAX = 2 ** 20;
const EVENT_PARTS_MAX = 64;

/** Watches a call; one that has finished is told at once, so that a watch after a look misses nothing. */
export const watchCall = (ledger: Ledger, callId: number, client: ClientPort): void => {
  if (ledger.call(callId) !== undefined) {
    ledger.outbox.watch(callId, client);
    return;
  }
  const row = ledger.sql.done.get(callId) as DoneRow | undefined;
  if (row === undefined) return;
  const message = emptyMessage();
  addEvent(message, new PartReader(ledger), {
    id: callId,
    rows: row.rows,
    unfinished: 0,
    finished: { ...row, parts: partsOfDone(row) },
    queueMs: row.started === null ? Number.NaN : Math.max(row.started - row.arrived, 0),
    handlerMs: row.handler_ms,
    isCached: (batch) => ledger.blobs.has(batch),
  });
  client.events.push({ kind: 'calls', value: message });
};

/**
 * What buffers and hosts are told before the commit. Ready comes before slots, so that hosts lease before buffers
 * seal more.
 */
export const collectEarlyEvents = (ledger: Ledger, clients: Iterable<ClientPort>): void => {
  const { outbox } = ledger;
  const events: EventMessage[] = [];
  if (outbox.waiting.extras.length > 0) events.push({ kind: 'waiting', value: outbox.waiting });
  for (const versionId of outbox.ready) events.push({ kind: 'ready', value: { versionId } });
  for (const version of outbox.slots) {
    const { idle, prefetch } = freeSlots(version);
    if (idle === version.toldIdle && prefetch === version.toldPrefetch) continue;
    version.toldIdle = idle;
    version.toldPrefetch = prefetch;
    events.push({ kind: 'slots', value: { versionId: version.id, idle, prefetch } });
  }
  tell(events, clients);
  outbox.clearEarly();
};

/** Turns what a commit did into messages. */
export const collectEvents = (ledger: Ledger, clients: Iterable<ClientPort>): void => {
  const { outbox } = ledger;
  const events: EventMessage[] = [];
  if (outbox.ended.length > 0) events.push({ kind: 'ended', value: outbox.ended });
  for (const name of outbox.functions) events.push({ kind: 'functions', value: { name, hasMoved: false } });
  tell(events, clients);
  if (outbox.calls.size > 0) collectCalls(ledger);
  outbox.clear();
};

const tell = (events: readonly EventMessage[], clients: Iterable<ClientPort>): void => {
  if (events.length === 0) return;
  for (const client of clients)
    for (const event of events) if (client.kinds.has(event.kind)) client.events.push(event);
};

const collectCalls = (ledger: Ledger): void => {
  const { outbox } = ledger;
  const messages = new Map<ClientPort, CallEventsMessage>();
  const reader = new PartReader(ledger);
  for (const [call, finished] of outbox.calls) {
    const watchers = outbox.watchers.get(call.id) ?? [];
    const event = eventOf(ledger, call, finished);
    for (const client of watchers) {
      let message = messages.get(client);
      if (message === undefined) {
        message = emptyMessage();
        messages.set(client, message);
        client.events.push({ kind: 'calls', value: message });
      }
      addEvent(message, reader, event);
    }
    if (finished !== null) outbox.watchers.delete(call.id);
  }
};

type CallNews = {
  readonly id: number;
  readonly rows: number;
  readonly unfinished: number;
  readonly finished: Finished;
  readonly queueMs: number;
  readonly handlerMs: number;
  readonly isCached: (batch: number) => boolean;
};

const eventOf = (ledger: Ledger, call: LiveCall, finished: Finished | null): CallNews => {
  const startedAt = call.startedAt ?? call.leasedAt;
  return {
    id: call.id,
    rows: call.rows,
    unfinished: finished === null ? call.rows - call.settled : 0,
    finished: finished ?? {
      status: liveStatus(call),
      failed: call.failed,
      cancelled: 0,
      expired: call.expired,
      parts: [],
    },
    queueMs: startedAt === null ? Number.NaN : Math.max(startedAt - call.arrivedAt, 0),
    handlerMs: call.handlerMs,
    isCached: (batch) => ledger.blobs.has(batch),
  };
};

const emptyMessage = (): CallEventsMessage => ({ numbers: [], outputs: [], parts: [] });

const addEvent = (message: CallEventsMessage, reader: PartReader, news: CallNews): void => {
  const { finished } = news;
  const { parts } = finished;
  const isSimple = parts.length === PART_WIDTH && parts[0] === PART.ok && news.isCached(parts[3]!);
  let output = -1;
  if (isSimple) {
    const ref = reader.output(parts[3]!);
    output = message.outputs.lastIndexOf(ref);
    if (output < 0) output = message.outputs.push(ref) - 1;
  }
  message.numbers.push(
    news.id,
    finished.status,
    news.rows,
    finished.failed,
    finished.cancelled,
    finished.expired,
    news.unfinished,
    news.queueMs,
    news.handlerMs,
    output,
    isSimple ? parts[4]! : 0,
  );
  if (isSimple || news.unfinished > 0 || !isSmall(parts, reader, news)) message.parts.push(null);
  else message.parts.push(partsOf(parts, reader));
};

/** Whether the whole result may travel with the event without a look at the disk. */
const isSmall = (parts: readonly number[], reader: PartReader, { isCached }: CallNews): boolean => {
  if (parts.length > EVENT_PARTS_MAX * PART_WIDTH) return false;
  let bytes = 0;
  for (let at = 0; at < parts.length; at += PART_WIDTH) {
    if (parts[at] !== PART.ok) continue;
    if (!isCached(parts[at + 3]!)) return false;
    bytes += reader.output(parts[at + 3]!).bytes.byteLength;
  }
  return bytes <= EVENT_BYTES_MAX;
};

const partsOf = (parts: readonly number[], reader: PartReader) => {
  const made = [];
  for (let at = 0; at < parts.length; at += PART_WIDTH) {
    made.push(reader.part(parts[at]!, parts[at + 1]!, parts[at + 2]!, parts[at + 3]!, parts[at + 4]!));
  }
  return made;
};
