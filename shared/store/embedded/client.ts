/** One thread's client: all verbs of a tick travel in one message, and answers and events come back in one. */
import { BugError, SluiceError } from '../../errors/sluice-error.ts';
import { IdMap } from '../../runtime/id-map.ts';
import { type DocumentBytes, type DocumentName, makeDocuments, type StoredBytes } from '../documents.ts';
import type { Coordination } from '../ports/coordination.ts';
import type { Keys } from '../ports/keys.ts';
import type { Admission, Admitted, QueueStore, Sealed } from '../ports/queue.ts';
import type { Registry } from '../ports/registry.ts';
import type { Retention } from '../ports/retention.ts';
import type { Store } from '../ports/store.ts';
import { flushSoon, type Port } from './channel.ts';
import type { ListedDocument } from './documents.ts';
import { fromErrorMessage } from './errors.ts';
import {
  ADMITTED_WIDTH,
  type AdmitReply,
  type LeasedMessage,
  type OpenMessage,
  type Reply,
  type Request,
  type ToClient,
} from './messages.ts';
import { REASONS, STATUSES } from './model.ts';
import {
  packAdmissions,
  packSettlement,
  packSlices,
  unpackLeased,
  unpackSlices,
  unpackWaiting,
} from './packers.ts';
import type { SealedMessage } from './sealing.ts';
import { shared } from './sharing.ts';
import { Subscriptions } from './subscriptions.ts';
import type { VerbName } from './verbs.ts';

export type ClientTicket = {
  readonly kind: 'embedded';
  readonly port: Port;
  readonly generation: string;
  readonly durability: string;
};

/** Admissions that travel together at most: the store takes the first of a turn's requests while the others are read. */
const ADMISSIONS_MAX = 16;

type Waiter = { readonly resolve: (value: never) => void; readonly reject: (error: Error) => void };
type WaitingAdmission = Waiter & { readonly admission: Admission };

class Connection {
  readonly subscriptions = new Subscriptions((verb, args) => this.#push({ id: 0, verb, args }));
  readonly #port: Port;
  readonly #waiters = new IdMap<Waiter>();
  #admissions: WaitingAdmission[] = [];
  #requests: Request[] = [];
  #nextId = 1;
  #isFlushing = false;
  #closed: Promise<void> | undefined;
  #isOver = false;

  constructor(port: Port) {
    this.#port = port;
    port.on('message', (message) => this.#receive(message as ToClient));
    port.once('close', () => this.#end());
  }

  ask<T>(verb: VerbName, args: unknown): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#isOver || this.#closed !== undefined) {
        reject(over());
        return;
      }
      const id = this.#nextId++;
      this.#waiters.set(id, { resolve, reject });
      this.#push({ id, verb, args });
    });
  }

  admit(admission: Admission): Promise<Admitted> {
    return new Promise((resolve, reject) => {
      if (this.#isOver || this.#closed !== undefined) {
        reject(over());
        return;
      }
      this.#admissions.push({ admission, resolve, reject });
      if (this.#admissions.length < ADMISSIONS_MAX) this.#schedule();
      else this.#flush();
    });
  }

  close(): Promise<void> {
    this.#closed ??= new Promise((resolve) => {
      this.#flush();
      if (this.#isOver || this.#waiters.size === 0) {
        this.#port.close();
        resolve();
        return;
      }
      // What was asked is answered first.
      this.#port.once('close', () => resolve());
    });
    return this.#closed;
  }

  #push(request: Request): void {
    if (this.#isOver) return;
    this.#sealAdmissions();
    this.#requests.push(request);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isFlushing) return;
    this.#isFlushing = true;
    flushSoon(this.#port, () => this.#flush());
  }

  #flush(): void {
    this.#isFlushing = false;
    this.#sealAdmissions();
    if (this.#requests.length === 0 || this.#isOver) return;
    this.#port.postMessage(this.#requests);
    this.#requests = [];
  }

  /** Neighbouring admissions are one request. */
  #sealAdmissions(): void {
    const admissions = this.#admissions;
    if (admissions.length === 0) return;
    this.#admissions = [];
    const id = this.#nextId++;
    this.#waiters.set(id, {
      resolve: (reply: AdmitReply) => this.#answer(admissions, reply),
      reject: (error) => {
        for (const { reject } of admissions) reject(error);
      },
    });
    const args = packAdmissions(admissions.map(({ admission }) => admission));
    this.#requests.push({ id, verb: 'admit' satisfies VerbName, args });
  }

  #answer(admissions: readonly WaitingAdmission[], { numbers, errors }: AdmitReply): void {
    admissions.forEach(({ admission, resolve, reject }, index) => {
      const error = errors?.[index];
      if (error != null) {
        reject(fromErrorMessage(error));
        return;
      }
      const at = index * ADMITTED_WIDTH;
      const callId = numbers[at]!;
      const attached = numbers[at + 2] === 1;
      // Of an older call another may have told the thread meanwhile that nobody here listens: its watch is told anew.
      if (admission.watch === true && !attached) this.subscriptions.expect(callId);
      const admitted: Admitted = { callId, status: STATUSES[numbers[at + 1]!]!, attached };
      resolve(admitted as never);
    });
  }

  #receive({ replies, events }: ToClient): void {
    for (const reply of replies) this.#settle(reply);
    this.subscriptions.deliver(events);
    if (this.#closed !== undefined && this.#waiters.size === 0) this.#port.close();
  }

  #settle({ id, value, error }: Reply): void {
    const waiter = this.#waiters.get(id);
    // A request that wanted no answer, and was refused: its sender cannot know.
    if (waiter === undefined) return;
    this.#waiters.delete(id);
    if (error === undefined) waiter.resolve(value as never);
    else waiter.reject(fromErrorMessage(error));
  }

  #end(): void {
    this.#isOver = true;
    this.#sealAdmissions();
    for (const { reject } of this.#waiters.values()) reject(over());
    this.#waiters.clear();
  }
}

const over = (): SluiceError => new SluiceError('shutting_down', 'The store is closed.');

export const makeClient = ({ port, generation, durability }: ClientTicket): Store => {
  const connection = new Connection(port);
  const ask = <T>(verb: VerbName, args: unknown = null): Promise<T> => connection.ask<T>(verb, args);
  return {
    queue: makeQueue(connection, generation, durability),
    registry: makeRegistry(ask),
    documents: makeDocuments(documentBytes(ask)),
    keys: {
      create: (query) => ask('createKey', query),
      list: () => ask('listKeys'),
      revoke: (id) => ask('revokeKey', id),
      find: (secretHash) => ask('findKey', secretHash),
    } satisfies Keys,
    retention: {
      acknowledge: (query) => ask('acknowledge', query),
      sweep: (query) => ask('sweep', query),
      usage: () => ask('usage'),
    } satisfies Retention,
    coordination: SOLE_OWNER,
    lineage: { resolve: (former) => ask('resolveFormer', former) },
    counters: () => ask('counters'),
    reach: async () => {
      await ask('counters');
    },
    close: () => connection.close(),
  };
};

/** One process owns the data directory, so it owns every function's buffer. */
const SOLE_OWNER: Coordination = {
  exclusive: true,
  join: async ({ memberId }) => [memberId],
  leave: async () => undefined,
  own: async () => ({ fence: '', until: Number.POSITIVE_INFINITY }),
  disown: async () => undefined,
};

const makeQueue = (connection: Connection, generation: string, durability: string): QueueStore => ({
  generation,
  durability,
  admit: (admission) => connection.admit(admission),
  open: async (query) => {
    const page = await connection.ask<OpenMessage>('open', query);
    return { calls: unpackWaiting(page), next: page.next };
  },
  offer: (offer) => connection.ask('offer', offer),
  seal: async ({ now, versionId, slices, reason }) => {
    const args = { now, versionId, slices: packSlices(slices), reason: REASONS.indexOf(reason) };
    const { batchId, refused, idle, prefetch } = await connection.ask<SealedMessage>('seal', args);
    return {
      fenced: false,
      batchId,
      refused: unpackSlices(refused),
      free: { versionId, idle, prefetch },
    } satisfies Sealed;
  },
  lease: async (request) => (await connection.ask<LeasedMessage[]>('lease', request)).map(unpackLeased),
  extend: (request) => connection.ask('extend', request),
  release: (lease) => connection.ask('release', lease),
  settle: (settlement) => connection.ask('settle', packSettlement(settlement)),
  expired: (query) => connection.ask('expired', query),
  call: (callId) => connection.ask('call', callId),
  list: (query) => connection.ask('list', query),
  watch: (query, listener) => {
    if (query.kind === 'call' && query.callId === undefined)
      throw new BugError('a watch of a call names no call');
    return connection.subscriptions.add(query, listener);
  },
  result: (query) => connection.ask('result', query),
  cancel: (query) => connection.ask('cancel', query),
});

const documentBytes = (ask: <T>(verb: VerbName, args?: unknown) => Promise<T>): DocumentBytes => {
  const get = (name: DocumentName) => ask<Omit<StoredBytes, 'key'> | undefined>('getDocument', name);
  return {
    get,
    page: async (query) => {
      const documents: StoredBytes[] = [];
      const listed = await ask<ListedDocument[]>('listDocuments', query);
      for (const { key, revision, bytes } of listed) {
        const one = bytes === null ? await get({ kind: query.kind, key }) : { revision, bytes };
        if (one !== undefined) documents.push({ key, ...one });
      }
      return { documents, next: listed.length < query.limit ? null : listed.at(-1)!.key };
    },
    put: (document) => ask('putDocument', { ...document, bytes: shared(document.bytes) }),
    remove: (document) => ask('removeDocument', document),
  };
};

const makeRegistry = (ask: <T>(verb: VerbName, args?: unknown) => Promise<T>): Registry => ({
  deploy: (query) => ask('deploy', query),
  settleStaged: (query) => ask('settleStaged', query),
  functions: () => ask('functions'),
  function: (name) => ask('function', name),
  source: (versionId) => ask('source', versionId),
  update: (query) => ask('update', query),
  remove: (name) => ask('remove', name),
  repin: (query) => ask('repin', query),
  retire: (query) => ask('retire', query),
  report: (query) => ask('report', query),
  reports: (query) => ask('reports', query),
  load: () => ask('load'),
  loadOf: (name) => ask('loadOf', name),
  appendLogs: (lines) => ask('appendLogs', lines),
  logs: (query) => ask('logs', query),
});
