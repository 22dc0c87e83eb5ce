/**
 * The store's loop: owns SQLite and the segments, drains the ports of its clients, commits in groups.
 *
 *   ports ─► inbox ─► one transaction ─► one message of replies and events for each port
 */
import { writeSync } from 'node:fs';
import { atTurnEnd } from '../../runtime/turn-end.ts';
import type { EmbeddedOptions } from '../ports/server.ts';
import { checkServable } from '../transfer-mark.ts';
import { type Port, waitingAt } from './channel.ts';
import { type Asked, Committer } from './committing.ts';
import { generationOf, openDatabase } from './database.ts';
import { Ledger } from './ledger.ts';
import { load } from './loading.ts';
import type { ToStore } from './messages.ts';
import type { ClientPort } from './outbox.ts';
import { Segments } from './segments.ts';
import { stage } from './staging.ts';
import { boundLogFile, tidy } from './tidying.ts';
import { readMark } from './transfer-mark.ts';
import { WriteAheadLog } from './write-ahead-log.ts';

/** Requests in one transaction at most: the first of a flood do not wait for its last. */
const GROUP_MAX = 1024;
/** Commits between two looks at the log's length: a commit writes a few pages. */
const TIDY_COMMITS = 64;
/** What nobody waits for is durable this much later at the latest; mostly another commit takes it along before. */
const OPEN_MS_MAX = 20;

export class StoreLoop {
  readonly #ledger: Ledger;
  /** null: nothing is made durable. */
  readonly #log: WriteAheadLog | null;
  readonly #clients = new Set<ClientPort>();
  #inbox: Asked[] = [];
  #commits = 0;
  readonly #committer: Committer;
  #openTimer: NodeJS.Timeout | null = null;
  readonly #staging = new Set<Promise<void>>();
  /** What came, or was staged, together is one group. */
  readonly #runSoon = atTurnEnd(() => this.run());
  #isClosed = false;

  constructor(ledger: Ledger, log: WriteAheadLog | null) {
    this.#ledger = ledger;
    this.#log = log;
    this.#committer = new Committer(ledger, this.#clients, log);
  }

  get generation(): string {
    return generationOf(this.#ledger.db);
  }

  connect(port: Port): void {
    const client: ClientPort = { port, kinds: new Set(), early: [], replies: [], events: [] };
    this.#clients.add(client);
    port.on('message', (requests) => {
      this.#receive(client, requests as ToStore);
      // Not at once: while messages come, Node gives them out before anything else, also before the ends of syncs.
      this.#runSoon();
    });
    port.on('close', () => {
      this.#clients.delete(client);
      for (const [callId] of this.#ledger.outbox.watchers) this.#ledger.outbox.unwatch(callId, client);
    });
  }

  /** One group; what came meanwhile is the next. Between two groups other events of the thread get their turn. */
  run(): void {
    if (this.#isClosed) return;
    this.#drain();
    if (this.#inbox.length > 0) this.#commit(this.#inbox.splice(0, GROUP_MAX));
    if (this.#inbox.length > 0) this.#runSoon();
  }

  #commit(group: Asked[]): void {
    try {
      this.#inbox.push(...this.#committer.run(group));
      if (this.#committer.isOpen) {
        this.#openTimer ??= setTimeout(() => this.#commitOpen(), OPEN_MS_MAX);
        return;
      }
      this.#stopOpenTimer();
      this.#commits += 1;
      const { isLogLong, isFull } = this.#ledger;
      this.#ledger.isLogLong = false;
      if (isFull || isLogLong || this.#commits % TIDY_COMMITS === 0) tidy(this.#ledger, this.#log, isLogLong);
    } catch (error) {
      die(error);
    }
  }

  #commitOpen(): void {
    this.#stopOpenTimer();
    if (this.#committer.isOpen) this.#commit([]);
  }

  #stopOpenTimer(): void {
    if (this.#openTimer !== null) clearTimeout(this.#openTimer);
    this.#openTimer = null;
  }

  async close(): Promise<void> {
    do {
      this.run();
      await Promise.all(this.#staging);
    } while (this.#inbox.length > 0);
    this.#isClosed = true;
    this.#commitOpen();
    await this.#log?.idle();
    for (const { port } of this.#clients) port.close();
    this.#ledger.segments.close();
    this.#log?.close();
    this.#ledger.db.close();
  }

  #drain(): void {
    for (const client of this.#clients) {
      for (const requests of waitingAt(client.port)) this.#receive(client, requests as ToStore);
    }
  }

  #receive(client: ClientPort, requests: ToStore): void {
    // What was on its way at the end: its sender is told by the end of the port.
    if (this.#isClosed) return;
    try {
      for (const request of requests) this.#take({ client, request });
    } catch (error) {
      die(error);
    }
  }

  /** Requests with large bytes join the inbox when these are on the disk. */
  #take(asked: Asked): void {
    const staging = stage(this.#ledger, asked);
    if (staging === null) this.#inbox.push(asked);
    else this.#stage(asked, staging);
  }

  #stage(asked: Asked, staging: Promise<readonly Uint8Array[]>): void {
    const staged = staging
      .then((bytes) => {
        asked.staged = bytes;
        this.#inbox.push(asked);
        this.#staging.delete(staged);
        this.#runSoon();
      })
      .catch(die);
    this.#staging.add(staged);
  }
}

/** The exit status of a process whose store could not commit (EX_SOFTWARE). */
const FATAL_EXIT = 70;

/** A commit failed in a way that leaves the disk's state unknown: no answer may leave any more. */
const die = (error: unknown): never => {
  const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
  try {
    writeSync(
      2,
      `${JSON.stringify({ level: 60, msg: 'the store failed to commit, the process stops so that nothing unsafe is acknowledged', err: detail })}\n`,
    );
  } finally {
    // Also where nobody reads standard error any more.
    process.exit(FATAL_EXIT);
  }
};

const openLedger = (options: EmbeddedOptions): Ledger => {
  const db = openDatabase(options.directory, options.durability);
  try {
    checkServable(readMark(db), `embedded:${options.directory}`);
    const ledger = new Ledger(db, new Segments(options.directory, options.durability === 'fsync'), options);
    boundLogFile(ledger);
    load(ledger, true);
    return ledger;
  } catch (error) {
    db.close();
    throw error;
  }
};

/**
 * Opens or makes the data directory.
 * @throws SluiceError when another process owns it or its format is another
 */
export const openStoreLoop = (options: EmbeddedOptions): StoreLoop => {
  const ledger = openLedger(options);
  const isDurable = options.durability === 'fsync';
  const log = isDurable ? new WriteAheadLog(ledger.db, options.directory, die) : null;
  ledger.segments.recycle(() => log?.settle());
  return new StoreLoop(ledger, log);
};
