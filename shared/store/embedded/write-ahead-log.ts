/**
 * SQLite's log, synced where its disk is quick, else beside the store's thread. SQLite writes a commit into it and goes on
 * (from here on it syncs by itself around checkpoints alone); what a commit promises leaves after a sync that began when
 * the commit lay in the file, and meanwhile, if that takes a while, the verbs of the next group run.
 */
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { syncDirectory } from './directory-sync.ts';
import { SharedSync } from './shared-sync.ts';
import { SyncPace } from './sync-pace.ts';

export class WriteAheadLog {
  readonly #descriptor: number;
  readonly #sync: SharedSync;
  readonly #pace = new SyncPace();
  readonly #totalChanges: StatementSync;
  readonly #onError: (error: unknown) => void;
  /** Rows that this connection had changed when the latest sync was asked for. */
  #changes: number;
  /** The sync of what was committed last, until it has ended. */
  #latest: Promise<void> | null = null;

  /** @param onError a sync failed: nobody knows what the disk holds */
  constructor(db: DatabaseSync, directory: string, onError: (error: unknown) => void) {
    this.#onError = onError;
    this.#totalChanges = db.prepare('SELECT total_changes() AS n');
    this.#changes = this.#count();
    db.exec('PRAGMA synchronous = NORMAL');
    this.#descriptor = openSync(join(directory, 'sluice.db-wal'), 'r');
    this.#sync = new SharedSync('the log', this.#descriptor);
    // What the process before had written and not synced is read by now, and told to whoever asks.
    this.settle();
    syncDirectory(directory);
  }

  /** Runs `leave` when all that is committed is durable, in order; at once where nothing was written since. */
  whenDurable(leave: () => void): void {
    const changes = this.#count();
    if (changes !== this.#changes) this.#begin();
    this.#changes = changes;
    if (this.#latest === null) leave();
    else this.#latest.then(leave).catch(this.#onError);
  }

  /** Makes durable what is committed; the thread waits. */
  settle(): void {
    this.#sync.now();
  }

  /** Resolves when nothing waits for a sync any more. */
  async idle(): Promise<void> {
    while (this.#latest !== null) await this.#latest;
  }

  close(): void {
    closeSync(this.#descriptor);
  }

  #begin(): void {
    const began = performance.now();
    if (this.#latest === null && this.#pace.isQuick(began)) {
      this.settle();
      const ended = performance.now();
      this.#pace.took(ended - began, ended);
      return;
    }
    const sync = this.#sync.done().then(() => {
      if (this.#latest === sync) this.#latest = null;
    });
    this.#latest = sync;
  }

  #count(): number {
    return (this.#totalChanges.get() as { n: number }).n;
  }
}
