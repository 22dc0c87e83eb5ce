/** One thread's client of the Redis store: its connections, what it hears, and the ports over them. */
import { randomBytes } from 'node:crypto';
import { withoutSecrets } from '../../config/redaction.ts';
import { SluiceError } from '../../errors/sluice-error.ts';
import { BlobCache } from '../blob-cache.ts';
import { makeDocuments } from '../documents.ts';
import type { QueueStore } from '../ports/queue.ts';
import type { BucketOptions } from '../ports/server.ts';
import type { Store } from '../ports/store.ts';
import { parseAddress } from './address.ts';
import { Announced } from './announced.ts';
import { BullDispatch } from './bull-dispatch.ts';
import { ServerClock } from './clock.ts';
import { makeCoordination } from './coordination.ts';
import { Directory } from './directory.ts';
import { makeDocumentBytes } from './documents.ts';
import { Events } from './events.ts';
import { MemoryGuard, readDurability } from './health.ts';
import { makeKeys } from './keys.ts';
import { LargeBytes } from './large-bytes.ts';
import { LargeTurns } from './large-turns.ts';
import { functionOfVersion, isFunctionNumber, Layout } from './layout.ts';
import { Link } from './link.ts';
import { OutputReads } from './output-reads.ts';
import { makeQueue } from './queue.ts';
import type { QueueContext, QueueLimits } from './queue-context.ts';
import { RedisRegistry } from './registry.ts';
import { CallLostError, dataLost, moved } from './replies.ts';
import { makeRetention } from './retention.ts';
import { makeLineage } from './transfer-lineage.ts';
import { readMark } from './transfer-mark.ts';

/** Plain data: it crosses to other threads. */
export type RedisTicket = {
  readonly kind: 'redis';
  readonly url: string;
  readonly prefix: string;
  readonly generation: string;
  readonly durability: string;
  /** Whether a failover may lose what was acknowledged last. */
  readonly isReplicated: boolean;
  readonly limits: QueueLimits;
  readonly skewMsMax: number;
  /** Replicas that confirm admissions (WAITAOF); null: none are asked. */
  readonly waitReplicas: number | null;
  readonly bucket: BucketOptions | null;
};

/** What stands behind notifications, the memory's limit and the generation are looked at this often. */
const POLL_MS = 1000;
/** Outputs and payloads that were just read; neighbours of one batch read the same. */
const BLOB_BYTES_MAX = 64 * 2 ** 20;
/** How long a verb waits for a connection, and for its reply. */
export const WAIT_MS = 5000;
export const REPLY_MS = 10_000;

/** Of all the server's settings what its durability depends on is read at each fifth look: it costs a tenth of a millisecond. */
const SETTINGS_LOOKS = 5;

/** What one client of a process notices for all. */
export type ClientListeners = {
  /** null: it is right again. */
  readonly onClock: (fault: SluiceError | null) => void;
  /** A sentence for each way in which the server's settings may lose accepted calls now. */
  readonly onSettings: (warnings: readonly string[]) => void;
};

class Client {
  readonly link: Link;
  readonly layout: Layout;
  readonly events: Events;
  readonly context: QueueContext;
  readonly directory: Directory;
  readonly guard: MemoryGuard;
  readonly dispatch: BullDispatch;
  lost: SluiceError | null = null;
  readonly #ticket: RedisTicket;
  readonly #listeners: ClientListeners | undefined;
  #isClockOff = false;
  #looks = 0;
  #isReplicated: boolean;
  #poll: NodeJS.Timeout | undefined;
  #checking: Promise<void> | undefined;
  #closed: Promise<void> | undefined;

  constructor(ticket: RedisTicket, listeners?: ClientListeners) {
    this.#ticket = ticket;
    this.#isReplicated = ticket.isReplicated;
    this.#listeners = listeners;
    const { url, prefix, waitReplicas } = ticket;
    const address = parseAddress(url);
    const name = `sluice-${randomBytes(4).toString('hex')}`;
    this.layout = new Layout(prefix);
    this.link = new Link({
      address,
      url,
      name,
      waitMs: WAIT_MS,
      replyMs: REPLY_MS,
      waitReplicas,
      onLost: async (error) => {
        await this.check();
        return this.lost ?? error;
      },
    });
    const { link, layout } = this;
    this.directory = new Directory({ link, layout, owned: () => this.events.owned() });
    this.guard = new MemoryGuard(link);
    this.dispatch = new BullDispatch({ address, layout, name: `${name}-bull`, replyMs: WAIT_MS });
    const counters: Record<string, number> = { settle_conflicts: 0, late_rows: 0 };
    const place = { link, layout, generation: ticket.generation, counters };
    const largeBytes = new LargeBytes(place, ticket.bucket);
    const blobs = new BlobCache(BLOB_BYTES_MAX);
    this.context = {
      link,
      layout,
      generation: ticket.generation,
      durability: ticket.durability,
      limits: ticket.limits,
      clock: new ServerClock(link, ticket.skewMsMax),
      functions: this.directory,
      dispatch: this.dispatch,
      checkRoom: this.guard.checkRoom,
      counters,
      largeBytes,
      largeTurns: new LargeTurns(() => !link.isReady),
      blobs,
      outputs: new OutputReads({ link, layout, largeBytes }, blobs),
      overdue: new Map(),
      announced: new Announced(),
      jobs: new Map(),
    };
    this.events = new Events(this.context, this.directory);
    this.#schedule();
  }

  /** Looks whether the data is still that which this client opened. Safe to call at any time. */
  check(): Promise<void> {
    this.#checking ??= this.#checkNow().finally(() => {
      this.#checking = undefined;
    });
    return this.#checking;
  }

  async settled(): Promise<void> {
    await this.link.command('PING');
    await this.link.catchUp();
    await this.events.settled();
  }

  close(): Promise<void> {
    clearTimeout(this.#poll);
    this.#closed ??= (async () => {
      this.events.close();
      // What was asked is answered first, also what waits for its turn.
      await this.context.largeTurns.begun();
      await Promise.all([this.link.close(), this.context.largeBytes.close()]);
      await this.dispatch.close();
    })();
    return this.#closed;
  }

  #schedule(): void {
    this.#poll = setTimeout(() => {
      void this.#look().finally(() => {
        if (this.#closed === undefined && this.lost === null) this.#schedule();
      });
    }, POLL_MS);
    this.#poll.unref();
  }

  async #look(): Promise<void> {
    const { link, layout, guard, events } = this;
    try {
      const generation = await link.command<Buffer | null>('GET', layout.store('generation'));
      if (String(generation) !== this.#ticket.generation) await this.check();
      await Promise.all([guard.measure(), events.catchUp(), this.#lookAtClock(), this.#lookAtSettings()]);
    } catch {
      // Redis does not answer; verbs say so, and the next look is soon.
    }
  }

  async #lookAtSettings(): Promise<void> {
    this.#looks += 1;
    if (this.#looks % SETTINGS_LOOKS !== 0) return;
    const { waitReplicas, bucket } = this.#ticket;
    const { durability, warnings, isReplicated } = await readDurability(this.link, {
      waitReplicas,
      hasBucket: bucket !== null,
      wasReplicated: this.#isReplicated,
    });
    this.#isReplicated = isReplicated;
    this.context.durability = durability;
    this.#listeners?.onSettings(warnings);
  }

  async #lookAtClock(): Promise<void> {
    const { clock } = this.context;
    await clock.measure();
    const fault = clock.fault();
    if (this.#isClockOff === (fault !== null)) return;
    this.#isClockOff = fault !== null;
    this.#listeners?.onClock(fault);
  }

  async #checkNow(): Promise<void> {
    if (this.lost !== null) return;
    const { link, layout, directory } = this;
    const { generation } = this.#ticket;
    const isOurs = async (key: string): Promise<boolean> =>
      String(await link.command<Buffer | null>('GET', key)) === generation;
    try {
      if (!(await isOurs(layout.store('generation')))) {
        const mark = await readMark(link, layout);
        this.#lose(
          mark !== null && 'to' in mark
            ? moved(withoutSecrets(this.#ticket.url), mark.to)
            : dataLost('the server was emptied, or restored from another time'),
        );
        return;
      }
      for (const [name, fn] of await directory.names())
        if (!(await isOurs(`${layout.key(fn, 'generation')}`)))
          this.#lose(dataLost(`the part of the cluster that held function "${name}" was emptied`));
    } catch {
      // Redis does not answer; the next poll looks again.
    }
  }

  #lose(error: SluiceError): void {
    if (this.lost !== null) return;
    this.lost = error;
    this.link.lose(error);
    this.events.lose({ code: error.code, detail: error.message });
  }
}

/** @param onClock told when this machine's clock turns out to be off, and with null when it is right again */
export const makeRedisClient = (ticket: RedisTicket, listeners?: ClientListeners): Store => {
  const client = new Client(ticket, listeners);
  const { context, directory, events, guard } = client;
  const registry = new RedisRegistry(context, directory);
  const { queue, flush } = makeQueue(context, events);
  return {
    queue: withNews(client, queue),
    registry,
    documents: makeDocuments(makeDocumentBytes(context)),
    keys: makeKeys(context),
    retention: makeRetention(context, registry, guard, () => client.lost),
    coordination: makeCoordination(context, directory, events),
    lineage: makeLineage(context),
    counters: async () => {
      await client.settled();
      return { ...context.counters };
    },
    reach: async () => {
      await client.link.command('PING');
    },
    close: () => {
      flush();
      return client.close();
    },
  };
};

const withNews = (client: Client, queue: QueueStore): QueueStore => {
  const { calls } = client.events;
  /** An id of a function that never was names nothing; that of a function whose slot is gone is told as such. */
  const unlessUnknown = async <T>(asked: Promise<T>): Promise<T | undefined> => {
    try {
      return await asked;
    } catch (error) {
      const isLost = error instanceof SluiceError && error.code === 'data_lost';
      if (!isLost || error instanceof CallLostError || client.lost !== null) throw error;
      return undefined;
    }
  };
  return {
    ...queue,
    get durability() {
      return queue.durability;
    },
    admit: async (admission) => {
      if (admission.watch !== true) return queue.admit(admission);
      const fn = functionOfVersion(admission.versionId);
      const isHeard = isFunctionNumber(fn) && calls.expectNews(fn);
      const admitted = await queue.admit(admission);
      if (isHeard) calls.expect(admitted);
      return admitted;
    },
    call: (callId) => unlessUnknown(queue.call(callId)),
    result: (query) => unlessUnknown(queue.result(query)),
    cancel: async (query) => (await unlessUnknown(queue.cancel(query))) ?? { calls: 0, rows: 0 },
  };
};
