/** How much the store holds, against its limit. Measured at most every second, or after 16 MiB of admissions. */
import { statfsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Usage } from '../ports/retention.ts';
import type { Ledger } from './ledger.ts';

const MEASURE_MS = 1000;
const MEASURE_BYTES = 16 * 2 ** 20;

const fileBytes = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;

export class Disk {
  readonly #ledger: Ledger;
  #measuredAt = Number.NEGATIVE_INFINITY;
  #admittedBytes = 0;
  #usedBytes = 0;
  #freeBytes = 0;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  /** Whether an admission of so many bytes must be refused; counts them where not. */
  isFullFor(bytes: number): boolean {
    const isStale = performance.now() - this.#measuredAt > MEASURE_MS || this.#admittedBytes > MEASURE_BYTES;
    if (isStale) this.measure();
    const { limitBytes, reserveBytes } = this.#ledger.options;
    const added = this.#admittedBytes + bytes;
    const isFull = this.#usedBytes + added > limitBytes || this.#freeBytes - added < reserveBytes;
    this.#ledger.isFull = isFull;
    if (!isFull) this.#admittedBytes = added;
    return isFull;
  }

  /** The next admission measures anew (something was swept, or the disk said that it is full). */
  forget(): void {
    this.#measuredAt = Number.NEGATIVE_INFINITY;
  }

  logBytes(): number {
    return fileBytes(join(this.#ledger.options.directory, 'sluice.db-wal'));
  }

  measure(): Usage {
    const { db, segments, options } = this.#ledger;
    const pages = (name: string): number =>
      (db.prepare(`PRAGMA ${name}`).get() as Record<string, number>)[name] ?? 0;
    // Free pages are used again before the file grows, so they do not count.
    const tableBytes = (pages('page_count') - pages('freelist_count')) * pages('page_size');
    const databaseBytes = tableBytes + this.logBytes();
    const segmentBytes = segments.bytes;
    const system = statfsSync(options.directory);
    this.#measuredAt = performance.now();
    this.#admittedBytes = 0;
    this.#usedBytes = databaseBytes + segmentBytes;
    this.#freeBytes = system.bavail * system.bsize;
    const full = this.#usedBytes >= options.limitBytes || this.#freeBytes < options.reserveBytes;
    this.#ledger.isFull = full;
    return {
      databaseBytes,
      segmentBytes,
      segmentFiles: segments.files,
      limitBytes: options.limitBytes,
      full,
    };
  }
}
