/**
 * Large payloads and outputs in append-only files. A record is magic, CRC-32, length, bytes. `sync` runs before the
 * SQLite commit that refers to what was written, so that a reference never points into nothing; bytes that no row
 * refers to (a torn tail, a rolled-back append) are garbage that goes with its file.
 *
 *   stage (write and sync beside this thread) ─► append (answers the place at once) ─► sync ─► commit ─► unstage
 *
 * Large records are staged before the verb that refers to them runs, so that a group never waits for their bytes.
 */
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  writev,
  writevSync,
} from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { syncDirectory } from './directory-sync.ts';
import { failedSync, SharedSync } from './shared-sync.ts';

export type SegmentRef = { readonly segment: number; readonly at: number; readonly length: number };

const MAGIC = 0x534c5347;
const HEADER_BYTES = 16;
/** A file is unlinked as a whole: small enough that one late reader does not keep much, large enough to stay few. */
const SEGMENT_BYTES_MAX = 256 * 2 ** 20;
const HOUR_MS = 3_600_000;
/** Read-only descriptors kept open at most. */
const OPEN_FILES_MAX = 64;

/** The file that is written. */
type SegmentFile = {
  readonly segment: number;
  readonly descriptor: number;
  readonly hour: number;
  size: number;
  /** Records that are being staged; the descriptor stays open for them. */
  staging: number;
  isRetired: boolean;
  readonly sync: SharedSync;
};

export class DamagedSegment extends Error {
  override readonly name = 'DamagedSegment';
}

export class Segments {
  readonly #directory: string;
  readonly #durable: boolean;
  /** File sizes and live records by segment number. */
  readonly #sizes = new Map<number, number>();
  readonly #live = new Map<number, number>();
  readonly #readers = new Map<number, number>();
  #current: SegmentFile | undefined;
  /** Records on the disk that wait for their verb; they keep their file. */
  readonly #staged = new Map<Uint8Array, SegmentRef>();
  /** Files that take no more records while some are still being staged. */
  readonly #retired = new Set<number>();
  #dirty: SharedSync[] = [];
  #isDirectoryDirty = false;
  #next = 1;

  constructor(directory: string, durable: boolean) {
    this.#directory = join(directory, 'segments');
    this.#durable = durable;
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    if (durable) syncDirectory(directory);
    for (const name of readdirSync(this.#directory)) {
      const segment = Number(/^(\d+)\.seg$/.exec(name)?.[1] ?? 0);
      if (segment === 0) continue;
      this.#sizes.set(segment, statSync(join(this.#directory, name)).size);
      this.#next = Math.max(this.#next, segment + 1);
    }
  }

  get bytes(): number {
    let sum = 0;
    for (const size of this.#sizes.values()) sum += size;
    return sum;
  }

  get files(): number {
    return this.#sizes.size;
  }

  /** Counts a record that a row refers to; `count` is negative when the row goes. */
  refer(segment: number, count: number): void {
    this.#live.set(segment, (this.#live.get(segment) ?? 0) + count);
  }

  forgetReferences(): void {
    this.#live.clear();
  }

  append(bytes: Uint8Array, now: number): SegmentRef {
    const staged = this.#staged.get(bytes);
    if (staged !== undefined) return staged;
    const file = this.#fileFor(bytes.byteLength, now);
    const record = [headerOf(bytes), bytes];
    const at = file.size;
    const wanted = HEADER_BYTES + bytes.byteLength;
    // A short write is a full disk that had room for a part of it.
    if (writevSync(file.descriptor, record, at) < wanted)
      throw Object.assign(new Error('no space left for a segment record'), { code: 'ENOSPC' });
    this.#grow(file, wanted);
    if (!this.#dirty.includes(file.sync)) this.#dirty.push(file.sync);
    return { segment: file.segment, at, length: bytes.byteLength };
  }

  /**
   * Writes and syncs a record beside this thread; `append` of the same array then answers its place. A record that finds
   * no room is not staged: `append` finds none either, and says so. Rejects when a sync failed.
   */
  async stage(bytes: Uint8Array, now: number): Promise<void> {
    const file = this.#fileFor(bytes.byteLength, now);
    const at = file.size;
    const wanted = HEADER_BYTES + bytes.byteLength;
    this.#grow(file, wanted);
    file.staging += 1;
    try {
      if (!(await isWritten(file.descriptor, [headerOf(bytes), bytes], at, wanted))) return;
      if (this.#durable) await file.sync.done();
      this.#staged.set(bytes, { segment: file.segment, at, length: bytes.byteLength });
    } finally {
      file.staging -= 1;
      if (file.isRetired && file.staging === 0) {
        closeSync(file.descriptor);
        this.#retired.delete(file.segment);
      }
    }
  }

  /** After the commit of the verb that referred to it, or its refusal. */
  unstage(bytes: Uint8Array): void {
    this.#staged.delete(bytes);
  }

  #grow(file: SegmentFile, bytes: number): void {
    file.size += bytes;
    this.#sizes.set(file.segment, file.size);
  }

  /** Makes all appended records durable. An error here ends the process: the kernel may have dropped the pages. */
  sync(): void {
    if (this.#durable) {
      for (const file of this.#dirty) file.now();
      if (this.#isDirectoryDirty) this.#syncDirectory();
    }
    this.#dirty = [];
    this.#isDirectoryDirty = false;
  }

  #syncDirectory(): void {
    try {
      syncDirectory(this.#directory);
    } catch (error) {
      throw failedSync('segments', error as Error);
    }
  }

  /** The record's bytes in memory that threads share. Throws DamagedSegment. */
  read(ref: SegmentRef): Uint8Array {
    const record = new Uint8Array(new SharedArrayBuffer(HEADER_BYTES + ref.length));
    const filled = this.#fill(record, ref);
    const header = new DataView(record.buffer, 0, HEADER_BYTES);
    const bytes = record.subarray(HEADER_BYTES);
    const isWhole =
      filled === record.byteLength &&
      header.getUint32(0, true) === MAGIC &&
      header.getUint32(8, true) === ref.length &&
      header.getUint32(4, true) === crc32(bytes);
    if (!isWhole) throw new DamagedSegment(`${this.#place(ref)} is damaged (${ref.length} bytes).`);
    return bytes;
  }

  /** Reads up to the end of the record or of the file; a file that is not there or a bad sector is damage, too. */
  #fill(record: Uint8Array, ref: SegmentRef): number {
    try {
      const descriptor = this.#reader(ref.segment);
      for (let filled = 0; ; ) {
        const n = readSync(descriptor, record, filled, record.byteLength - filled, ref.at + filled);
        filled += n;
        if (n === 0 || filled === record.byteLength) return filled;
      }
    } catch (error) {
      const { code } = error as { code?: string };
      if (code !== 'ENOENT' && code !== 'EIO') throw error;
      throw new DamagedSegment(`${this.#place(ref)} cannot be read (${code}).`);
    }
  }

  #place({ at, segment }: SegmentRef): string {
    return `Record at ${at} of ${this.#path(segment)}`;
  }

  /** Unlinks files to which nothing refers; `settle` comes before the first: it makes durable what took the references away. */
  recycle(settle: () => void): number {
    let unlinked = 0;
    for (const segment of this.#sizes.keys()) {
      if ((this.#live.get(segment) ?? 0) > 0 || segment === this.#current?.segment) continue;
      if (this.#isStaged(segment)) continue;
      if (unlinked === 0) settle();
      this.#closeReader(segment);
      // Forced: a file that somebody removed is no reason to stop.
      rmSync(this.#path(segment), { force: true });
      this.#sizes.delete(segment);
      this.#live.delete(segment);
      unlinked += 1;
    }
    return unlinked;
  }

  #isStaged(segment: number): boolean {
    for (const ref of this.#staged.values()) if (ref.segment === segment) return true;
    return this.#retired.has(segment);
  }

  /** Ends the current file, so that `recycle` may take it; with a time, only when it is of an earlier hour. */
  cut(now = Number.POSITIVE_INFINITY): void {
    if (this.#current === undefined || Math.floor(now / HOUR_MS) <= this.#current.hour) return;
    this.sync();
    this.#retire(this.#current);
    this.#current = undefined;
  }

  /** Ends the current file where nothing refers to it: a full disk needs its room. */
  cutUnused(): void {
    const current = this.#current;
    if (current === undefined || current.size === 0 || current.staging > 0) return;
    if ((this.#live.get(current.segment) ?? 0) === 0 && !this.#isStaged(current.segment)) this.cut();
  }

  close(): void {
    this.cut();
    for (const segment of [...this.#readers.keys()]) this.#closeReader(segment);
  }

  #retire(file: SegmentFile): void {
    file.isRetired = true;
    if (file.staging === 0) closeSync(file.descriptor);
    else this.#retired.add(file.segment);
  }

  #fileFor(bytes: number, now: number): SegmentFile {
    const hour = Math.floor(now / HOUR_MS);
    const current = this.#current;
    if (current !== undefined && current.hour >= hour && current.size + bytes <= SEGMENT_BYTES_MAX)
      return current;
    this.cut();
    const segment = this.#next++;
    const descriptor = openSync(this.#path(segment), 'wx', 0o600);
    this.#isDirectoryDirty = true;
    this.#sizes.set(segment, 0);
    const sync = new SharedSync('segments', descriptor);
    this.#current = { segment, descriptor, sync, size: 0, hour, staging: 0, isRetired: false };
    return this.#current;
  }

  #path(segment: number): string {
    return join(this.#directory, `${segment}.seg`);
  }

  #reader(segment: number): number {
    let descriptor = this.#readers.get(segment);
    if (descriptor === undefined) {
      const oldest = this.#readers.keys().next().value;
      if (this.#readers.size >= OPEN_FILES_MAX && oldest !== undefined) this.#closeReader(oldest);
      descriptor = openSync(this.#path(segment), 'r');
      this.#readers.set(segment, descriptor);
    }
    return descriptor;
  }

  #closeReader(segment: number): void {
    const descriptor = this.#readers.get(segment);
    if (descriptor === undefined) return;
    this.#readers.delete(segment);
    closeSync(descriptor);
  }
}

const headerOf = (bytes: Uint8Array): Buffer => {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt32LE(crc32(bytes), 4);
  header.writeUInt32LE(bytes.byteLength, 8);
  return header;
};

/** False when the record found no room, or the file takes no bytes: `append` meets the same error and tells it. */
const isWritten = (
  descriptor: number,
  record: readonly Uint8Array[],
  at: number,
  wanted: number,
): Promise<boolean> =>
  new Promise((resolve) => {
    writev(descriptor, record, at, (error, written) => resolve(error === null && written === wanted));
  });
