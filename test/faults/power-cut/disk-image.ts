/**
 * The disk after a power cut: for each file everything up to its last sync, and of the later writes a random choice,
 * torn at sectors. A directory entry is there when the directory or the file was synced since, else by chance.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { LogRecord } from './write-log.ts';

const SECTOR_BYTES = 512;

type File = { synced: Buffer; size: number; pending: LogRecord[]; isEntrySynced: boolean };
type Chance = () => number;

class Disk {
  readonly #files = new Map<string, File>();
  /** Files that were unlinked since their directory was synced: the entry may come back. */
  readonly #unlinked = new Map<string, File>();

  apply(record: LogRecord): void {
    const { kind, path: name } = record;
    if (kind === 'create')
      this.#files.set(name, { synced: Buffer.alloc(0), size: 0, pending: [], isEntrySynced: false });
    else if (kind === 'write' || kind === 'truncate') this.#files.get(name)?.pending.push(record);
    else if (kind === 'sync') this.#sync(name);
    else if (kind === 'unlink') this.#unlink(name);
    else if (kind === 'rename') throw new Error('the store renames nothing');
  }

  #unlink(name: string): void {
    const file = this.#files.get(name);
    if (file?.isEntrySynced) this.#unlinked.set(name, file);
    this.#files.delete(name);
  }

  #sync(name: string): void {
    const file = this.#files.get(name);
    if (file !== undefined) {
      flush(file, file.pending);
      file.pending = [];
      file.isEntrySynced = true;
      return;
    }
    for (const [entry, { isEntrySynced }] of this.#files) {
      if (path.dirname(entry) === name && !isEntrySynced) this.#files.get(entry)!.isEntrySynced = true;
    }
    for (const entry of this.#unlinked.keys()) if (path.dirname(entry) === name) this.#unlinked.delete(entry);
  }

  write(from: string, to: string, chance: Chance): void {
    rmSync(to, { recursive: true, force: true });
    mkdirSync(to, { recursive: true });
    const files = [...this.#files].filter(([, { isEntrySynced }]) => isEntrySynced || chance() < 0.5);
    const undead = [...this.#unlinked].filter(([name]) => !this.#files.has(name) && chance() < 0.5);
    for (const [name, file] of [...files, ...undead]) {
      const target = path.join(to, path.relative(from, name));
      mkdirSync(path.dirname(target), { recursive: true });
      const left: File = { ...file, synced: Buffer.from(file.synced) };
      flush(left, choose(file.pending, chance));
      writeFileSync(target, left.synced.subarray(0, left.size));
    }
  }
}

/** Either all up to some write, or each by itself; a write may be torn at sectors. */
const choose = (pending: readonly LogRecord[], chance: Chance): LogRecord[] => {
  const mode = chance();
  if (mode < 0.2) return [];
  if (mode < 0.5) return pending.slice(0, Math.floor(chance() * (pending.length + 1)));
  const share = chance();
  return pending
    .filter(() => chance() < share)
    .flatMap((record) => (chance() < 0.3 ? tear(record, chance) : [record]));
};

const tear = (record: LogRecord, chance: Chance): LogRecord[] => {
  const torn: LogRecord[] = [];
  for (let at = 0; at < record.data.length; at += SECTOR_BYTES) {
    const data = record.data.subarray(at, at + SECTOR_BYTES);
    if (chance() < 0.5) torn.push({ ...record, offset: record.offset + at, data });
  }
  return torn;
};

const flush = (file: File, records: readonly LogRecord[]): void => {
  for (const { kind, offset, data } of records) {
    const end = kind === 'truncate' ? offset : offset + data.length;
    if (end > file.synced.length) {
      const grown = Buffer.alloc(Math.max(end, file.synced.length * 2));
      file.synced.copy(grown, 0, 0, file.size);
      file.synced = grown;
    }
    if (kind === 'truncate') {
      file.synced.fill(0, Math.min(offset, file.size));
      file.size = offset;
    } else {
      data.copy(file.synced, offset);
      file.size = Math.max(file.size, end);
    }
  }
};

/** Writes the image of a cut after `cut` records and returns the facts that were told before it. */
export const buildImage = (
  records: readonly LogRecord[],
  cut: number,
  from: string,
  to: string,
  chance: Chance,
): string[] => {
  const disk = new Disk();
  let facts = '';
  for (const record of records.slice(0, cut)) {
    if (record.kind === 'fact') facts += record.data.toString('utf8');
    else disk.apply(record);
  }
  disk.write(from, to, chance);
  return facts.split('\n').filter((line) => line !== '');
};
