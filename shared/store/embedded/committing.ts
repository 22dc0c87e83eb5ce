/**
 * Group commit. What arrived while the last group ran is one transaction: its verbs run in order, segments are synced,
 * SQLite commits into its log, and only when that is synced the answers and events leave. Meanwhile the next group runs;
 * groups that commit during one sync share the next.
 *
 *   verbs run ─► early: what buffers and hosts go on with ─► commit ─► the log is synced ─► answers and events to callers
 *
 * What only moves work along inside the server (waiting rows, seals, leases, slots) is told before the commit: whatever
 * is done with it comes back as a verb of a later group, so it is committed later, and nothing of it was promised to
 * anyone. A group of nothing else stays open for the next one's commit. It saves each batch two waits for the disk. A disk without room undoes the group and runs it again
 * without its admissions; a verb that breaks undoes the group and runs it again without that request; any other failure
 * to commit ends the process, since nobody knows what the disk holds.
 */
import { writeSync } from 'node:fs';
import { isFinished } from '../../domain/call.ts';
import { BugError, SluiceError } from '../../errors/sluice-error.ts';
import type { LeaseRequest } from '../ports/queue.ts';
import { diskFull } from './admission.ts';
import type { Port } from './channel.ts';
import { isDiskError, isNoSpace, toErrorMessage } from './errors.ts';
import { leaseAgain } from './leasing.ts';
import type { Ledger } from './ledger.ts';
import { load } from './loading.ts';
import {
  ADMIT_WIDTH,
  ADMITTED_WIDTH,
  type AdmitReply,
  type AdmitRequest,
  type ErrorMessage,
  type LeasedMessage,
  type Request,
  type ToClient,
} from './messages.ts';
import { type Lease, STATUSES } from './model.ts';
import { Again } from './moving.ts';
import type { ClientPort } from './outbox.ts';
import { runVerb, type VerbName } from './verbs.ts';
import { collectEarlyEvents, collectEvents } from './watching.ts';
import type { WriteAheadLog } from './write-ahead-log.ts';

export type Asked = {
  readonly client: ClientPort;
  readonly request: Request;
  /** Its answer left before the commit; what a lease answered is kept for a commit that fails. */
  wasAnswered?: boolean;
  leased?: LeasedMessage[];
  /** An admission that answers somebody who waits for the call's end: it was refused, or that end has been. */
  endsWait?: boolean;
  /** Bytes of it that were staged (staging.ts), until its commit or its refusal. */
  staged?: readonly Uint8Array[];
};

/**
 * Verbs of buffers and hosts, which promise nothing to a caller, and those that write nothing at all. `open` is among
 * them to stay in step with `waiting`. Reads for callers are not: they must not tell of what is not durable yet.
 */
const EARLY: ReadonlySet<string> = new Set([
  'open',
  'offer',
  'seal',
  'lease',
  'extend',
  'report',
  'appendLogs',
  'watch',
  'unwatch',
] satisfies VerbName[]);

/**
 * Whether somebody waits for the disk. A caller who waits for the call's end hears nothing before that, and its commit
 * takes the admission along; one who hears at once is known when it has run.
 */
const isPressing = ({ request: { verb, args } }: Asked): boolean => {
  if (EARLY.has(verb)) return false;
  if (verb !== ('admit' satisfies VerbName)) return true;
  const { numbers } = args as AdmitRequest;
  for (let at = ADMIT_WIDTH - 1; at < numbers.length; at += ADMIT_WIDTH) if (numbers[at] === 0) return true;
  return false;
};

export class Committer {
  readonly #ledger: Ledger;
  readonly #clients: Iterable<ClientPort>;
  /** null: nothing is made durable. */
  readonly #log: WriteAheadLog | null;
  /** Verbs of the open transaction: answered early, or of callers who wait for more than a commit. */
  #open: Asked[] = [];

  constructor(ledger: Ledger, clients: Iterable<ClientPort>, log: WriteAheadLog | null) {
    this.#ledger = ledger;
    this.#clients = clients;
    this.#log = log;
  }

  /** Something is written that no commit has made durable; an empty group commits it. */
  get isOpen(): boolean {
    return this.#open.length > 0;
  }

  /**
   * Runs a group and sends what it answers; returns the requests that go on in a later group. Where nobody waits for
   * the disk, the transaction stays open and shares the next commit.
   */
  run(group: readonly Asked[]): Asked[] {
    const began = performance.now();
    const commits = group.length === 0 || group.some(isPressing);
    const all = [...this.#open, ...group];
    const again = this.#runSound(group, commits);
    if (this.isOpen) return again;
    for (const { staged } of all) for (const bytes of staged ?? []) this.#ledger.segments.unstage(bytes);
    collectEvents(this.#ledger, this.#clients);
    this.#ledger.count('commits');
    this.#ledger.count('commit_ms_total', performance.now() - began);
    this.#send();
    return again;
  }

  /** What waits for a sync leaves in the order of the groups; what was told early may overtake it. */
  #send(): void {
    const messages = [...this.#clients].flatMap((client) => taken(client));
    if (messages.length === 0) return;
    const leave = (): void => {
      for (const { port, message } of messages) port.postMessage(message);
    };
    if (this.#log === null) leave();
    else this.#log.whenDurable(leave);
  }

  #runSound(group: readonly Asked[], commits: boolean): Asked[] {
    const all = [...this.#open, ...group];
    const broken: { readonly asked: Asked; readonly error: ErrorMessage }[] = [];
    const soundOf = (some: readonly Asked[]): Asked[] =>
      some.filter((asked) => !broken.some((one) => one.asked === asked));
    for (let pending = group; ; pending = all) {
      try {
        const again = this.#runWithOrWithoutRoom(
          soundOf(pending),
          soundOf(all),
          commits || broken.length > 0,
        );
        for (const { asked, error } of broken) asked.client.replies.push({ id: asked.request.id, error });
        return again;
      } catch (error) {
        if (!(error instanceof BrokenVerb)) throw error;
        this.#recover(all);
        const { message, stack } = error.reason;
        const detail = `This is a bug in Sluice, please report it: the store's ${error.asked.request.verb} failed: ${message}`;
        writeSync(2, `${JSON.stringify({ level: 50, msg: detail, err: stack })}\n`);
        broken.push({ asked: error.asked, error: { code: null, detail, extra: {} } });
      }
    }
  }

  #runWithOrWithoutRoom(pending: readonly Asked[], all: readonly Asked[], commits: boolean): Asked[] {
    try {
      return this.#transact(pending, commits);
    } catch (error) {
      if (!isNoSpace(error)) throw error;
      return this.#runWithoutRoom(all);
    }
  }

  #transact(group: readonly Asked[], commits: boolean): Asked[] {
    const ledger = this.#ledger;
    const again: Asked[] = [];
    if (!ledger.db.isTransaction) ledger.sql.begin.run();
    for (const asked of group) runOne(ledger, asked, again);
    sendEarly(ledger, group, this.#clients);
    this.#open.push(...group);
    if (!commits && !group.some(({ endsWait }) => endsWait)) return again;
    ledger.segments.sync();
    ledger.sql.commit.run();
    ledger.leasesBefore.clear();
    this.#open = [];
    return again;
  }

  #runWithoutRoom(all: readonly Asked[]): Asked[] {
    const ledger = this.#ledger;
    this.#recover(all);
    ledger.isRefusing = true;
    try {
      return this.#transact(all, true);
    } catch (error) {
      if (!isNoSpace(error)) throw error;
      this.#recover(all);
      const refusal = toErrorMessage(diskFull(ledger.options.limitBytes));
      for (const { client, request } of all) client.replies.push({ id: request.id, error: refusal });
      return [];
    } finally {
      ledger.isRefusing = false;
      ledger.disk.forget();
    }
  }

  #recover(all: readonly Asked[]): void {
    this.#open = [];
    recover(this.#ledger, all);
  }
}

const tellsAnEnd = ({ numbers, errors }: AdmitReply): boolean => {
  if (errors !== null) return true;
  for (let at = 1; at < numbers.length; at += ADMITTED_WIDTH)
    if (isFinished(STATUSES[numbers[at]!]!)) return true;
  return false;
};

/** A verb failed in a way that it should not; what it had written is undone with its group. */
class BrokenVerb extends Error {
  readonly asked: Asked;
  readonly reason: Error;
  constructor(asked: Asked, reason: Error) {
    super(reason.message);
    this.asked = asked;
    this.reason = reason;
  }
}

const runOne = (ledger: Ledger, asked: Asked, again: Asked[]): void => {
  const { client, request } = asked;
  const { id, verb, args } = request;
  // Its batches went out with the first answer; other ones would be nobody's.
  if (asked.leased !== undefined) {
    leaseAgain(ledger, args as LeaseRequest, asked.leased);
    return;
  }
  ledger.count('verbs');
  try {
    const value = runVerb(ledger, verb as VerbName, args, client);
    if (verb === 'lease') asked.leased = value as LeasedMessage[];
    if (verb === 'admit') asked.endsWait = tellsAnEnd(value as AdmitReply);
    if (value instanceof Again) again.push({ client, request: { id, verb, args: value.args } });
    else if (id !== 0) (EARLY.has(verb) ? client.early : client.replies).push({ id, value });
  } catch (error) {
    if (isDiskError(error)) throw error;
    if (!(error instanceof SluiceError || error instanceof BugError)) {
      throw new BrokenVerb(asked, error instanceof Error ? error : new Error(String(error)));
    }
    (EARLY.has(verb) ? client.early : client.replies).push({ id, error: toErrorMessage(error) });
  }
};

/** Goes back to what is committed. Leases and offers are memory only and stay with those who hold them. */
const recover = (ledger: Ledger, group: readonly Asked[]): void => {
  ledger.count('recoveries');
  if (ledger.db.isTransaction) ledger.sql.rollback.run();
  for (const { client } of group) {
    client.early = [];
    client.replies = [];
    client.events = [];
  }
  ledger.outbox.clear();
  const leases = new Map<number, Lease>();
  for (const [id, { lease }] of ledger.batches) if (lease !== null) leases.set(id, lease);
  for (const [id, lease] of ledger.leasesBefore) {
    if (lease === null) leases.delete(id);
    else leases.set(id, lease);
  }
  ledger.leasesBefore.clear();
  const versions = new Map(ledger.versions);
  load(ledger, false);
  for (const [id, version] of ledger.versions) {
    for (const [workerId, offer] of versions.get(id)?.offers ?? []) version.offers.set(workerId, offer);
    ledger.outbox.slots.add(version);
  }
  for (const [id, lease] of leases) {
    const batch = ledger.batches.get(id);
    if (batch === undefined) continue;
    batch.lease = lease;
    batch.version.ready.delete(batch);
    ledger.leaseEnds.push(lease.until, id);
  }
  // Buffers may know rows and seals that are undone: they read everything again.
  if (group.some(({ wasAnswered }) => wasAnswered)) {
    for (const { name } of ledger.functions.values()) ledger.outbox.functions.add(name);
  }
  for (const id of ledger.outbox.watchers.keys())
    if (id >= ledger.nextCall) ledger.outbox.watchers.delete(id);
};

/** Only messages that hold something leave; the transaction is not committed yet. */
const sendEarly = (ledger: Ledger, group: readonly Asked[], clients: Iterable<ClientPort>): void => {
  // A watch may have put an event there for after the commit.
  const held = [...clients].map((client) => [client, client.events] as const);
  for (const [client] of held) client.events = [];
  collectEarlyEvents(ledger, clients);
  for (const [client, events] of held) {
    if (client.early.length > 0 || client.events.length > 0) {
      client.port.postMessage({ replies: client.early, events: client.events });
      client.early = [];
    }
    client.events = events;
  }
  for (const asked of group) asked.wasAnswered = true;
};

const taken = (client: ClientPort): { readonly port: Port; readonly message: ToClient }[] => {
  const { port, replies, events } = client;
  if (replies.length === 0 && events.length === 0) return [];
  client.replies = [];
  client.events = [];
  return [{ port, message: { replies, events } }];
};
