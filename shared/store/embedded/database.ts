/**
 * Opens the SQLite file of a data directory. Its exclusive locking mode is the directory's lock: the kernel lets it go
 * with the process, however that ends. Checkpoints are run by us (SQLite's automatic ones hide a failed fsync).
 */
import { chmodSync, existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { SluiceError } from '../../errors/sluice-error.ts';
import { syncDirectory } from './directory-sync.ts';

/** Raised with every change of the tables or of the segment records. */
export const FORMAT_VERSION = 3;

/** What format 2 added to `functions`, in its order. */
const FUNCTIONS_SINCE_2 = ['staged INTEGER', 'staged_new INTEGER', 'scaling TEXT'] as const;

/** A document's bytes are JSON in parts (documents.ts): part n of a revision is `revision * 64 + n`. */
const DOCUMENTS = `
CREATE TABLE documents(kind TEXT NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL, bytes INTEGER NOT NULL,
  PRIMARY KEY(kind, key)) WITHOUT ROWID;
CREATE TABLE document_parts(id INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
`;

/** Apart from `versions`: SQLite reads through all of a row to its last columns. JSON. */
const SOURCES = 'CREATE TABLE version_sources(version INTEGER PRIMARY KEY, source TEXT NOT NULL);';

/**
 * `live` holds unfinished calls and is never updated on the hot path: what has been sealed and settled of a call is in
 * its batches. A finished call moves to `done`. Payload is last, so that scans skip its overflow pages.
 * `due` is the deadline until its passing has been handled. A batch is settled = 0 (open), 1 (some of its calls were
 * unfinished when it settled) or 2.
 */
const SCHEMA = `
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE functions(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, current INTEGER NOT NULL, paused INTEGER NOT NULL,
  created INTEGER NOT NULL, updated INTEGER NOT NULL, removed INTEGER, ${FUNCTIONS_SINCE_2.join(', ')});
CREATE TABLE versions(id INTEGER PRIMARY KEY, function INTEGER NOT NULL, digest TEXT NOT NULL, created INTEGER NOT NULL,
  spec TEXT NOT NULL, batching TEXT NOT NULL, removed INTEGER);
CREATE INDEX versions_function ON versions(function);
CREATE TABLE keys(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, scopes TEXT NOT NULL, prefix TEXT NOT NULL,
  hash TEXT NOT NULL UNIQUE, created INTEGER NOT NULL);
CREATE TABLE live(id INTEGER PRIMARY KEY, version INTEGER NOT NULL, key INTEGER NOT NULL, rows INTEGER NOT NULL,
  bytes INTEGER NOT NULL, arrived INTEGER NOT NULL, deadline INTEGER, due INTEGER, extra TEXT,
  segment INTEGER, at INTEGER, length INTEGER, kind INTEGER, payload);
CREATE INDEX live_version ON live(version);
CREATE INDEX live_due ON live(due) WHERE due IS NOT NULL;
CREATE INDEX live_segment ON live(segment) WHERE segment IS NOT NULL;
CREATE TABLE done(id INTEGER PRIMARY KEY, version INTEGER NOT NULL, key INTEGER NOT NULL, rows INTEGER NOT NULL,
  bytes INTEGER NOT NULL, arrived INTEGER NOT NULL, started INTEGER, finished INTEGER NOT NULL, deadline INTEGER,
  expires INTEGER NOT NULL, status INTEGER NOT NULL, failed INTEGER NOT NULL, cancelled INTEGER NOT NULL,
  expired INTEGER NOT NULL, handler_ms REAL NOT NULL, extra TEXT, batch INTEGER, output_row INTEGER, parts BLOB);
CREATE INDEX done_expires ON done(expires);
CREATE TABLE batches(id INTEGER PRIMARY KEY, version INTEGER NOT NULL, settled INTEGER NOT NULL, reason INTEGER NOT NULL,
  mode INTEGER NOT NULL, attempts INTEGER NOT NULL, claims INTEGER NOT NULL, not_before INTEGER NOT NULL, started INTEGER,
  handler_ms REAL NOT NULL, slices BLOB, outcomes BLOB, errors TEXT, segment INTEGER, at INTEGER, length INTEGER, output BLOB);
CREATE INDEX batches_open ON batches(id) WHERE settled = 0;
CREATE INDEX batches_partial ON batches(id) WHERE settled = 1;
CREATE INDEX batches_segment ON batches(segment) WHERE segment IS NOT NULL;
CREATE TABLE idempotency(key INTEGER, function INTEGER, name TEXT, digest TEXT NOT NULL, call INTEGER NOT NULL,
  PRIMARY KEY(key, function, name)) WITHOUT ROWID;
CREATE INDEX idempotency_call ON idempotency(call);
${DOCUMENTS}${SOURCES}
`;

export const PAGE_BYTES = 4096;

const isBusy = (error: unknown): boolean => {
  const code = (error as { errcode?: number }).errcode;
  return code !== undefined && (code & 0xff) === 5;
};

const configure = (db: DatabaseSync, durability: 'fsync' | 'memory'): void => {
  db.exec('PRAGMA locking_mode = EXCLUSIVE');
  db.exec(`PRAGMA page_size = ${PAGE_BYTES}`);
  db.exec('PRAGMA journal_mode = WAL');
  db.exec(`PRAGMA synchronous = ${durability === 'fsync' ? 'FULL' : 'OFF'}`);
  db.exec('PRAGMA wal_autocheckpoint = 0');
  db.exec('PRAGMA temp_store = MEMORY');
  // 64 MiB of pages: the hot ends of all tables, with room for a sweep.
  db.exec('PRAGMA cache_size = -65536');
};

const TO_2 = FUNCTIONS_SINCE_2.map((column) => `ALTER TABLE functions ADD COLUMN ${column};`).join('\n');

const TO_3 = `${SOURCES}
INSERT INTO version_sources SELECT id, json_extract(spec, '$.source') FROM versions;
UPDATE versions SET spec = json_set(spec, '$.source', json('[]'));`;

/** All of it or nothing: an older Sluice refuses the directory from then on. */
const upgrade = (db: DatabaseSync, from: number): void => {
  const steps = from === 1 ? `${TO_2} ${DOCUMENTS} ${TO_3}` : TO_3;
  const format = `UPDATE meta SET value = ${FORMAT_VERSION} WHERE name = 'format'`;
  db.exec(`BEGIN IMMEDIATE; ${steps} ${format}; COMMIT`);
};

const checkFormat = (db: DatabaseSync, directory: string): void => {
  const row = db.prepare("SELECT count(*) AS n FROM sqlite_schema WHERE name = 'meta'").get() as {
    n: number;
  };
  if (row.n === 0) {
    db.exec(`BEGIN IMMEDIATE; ${SCHEMA}`);
    const insert = db.prepare('INSERT INTO meta VALUES (?, ?)');
    insert.run('format', FORMAT_VERSION);
    insert.run('generation', Math.floor(Math.random() * 2 ** 40).toString(36));
    db.exec('COMMIT');
    return;
  }
  const format = db.prepare("SELECT value FROM meta WHERE name = 'format'").get() as
    | { value: number }
    | undefined;
  if (format?.value === 1 || format?.value === 2) {
    upgrade(db, format.value);
    return;
  }
  if (format?.value !== FORMAT_VERSION) {
    throw new SluiceError(
      'internal',
      `The data directory ${directory} has format ${format?.value}, this Sluice reads format ${FORMAT_VERSION}; start the Sluice that wrote it, or give another directory with --data.`,
      { directory, found: format?.value, wanted: FORMAT_VERSION },
    );
  }
};

const NO_DIRECTORY: Readonly<Record<string, string>> = {
  EEXIST: 'is a file',
  ENOTDIR: 'lies below a file',
  EACCES: 'may not be made by this user',
};

/** Answers the topmost directory that was not there before. */
const madeDirectory = (directory: string): string | undefined => {
  try {
    return mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (error) {
    const problem = NO_DIRECTORY[(error as NodeJS.ErrnoException).code ?? ''];
    if (problem === undefined) throw error;
    throw new SluiceError(
      'internal',
      `The data directory ${directory} ${problem}; give another directory with --data.`,
      { directory },
    );
  }
};

/** Throws a SluiceError when the directory cannot be made, another process owns it, or its format is another. */
export const openDatabase = (directory: string, durability: 'fsync' | 'memory'): DatabaseSync => {
  const made = madeDirectory(directory);
  if (made !== undefined && durability === 'fsync') syncDirectory(dirname(made));
  chmodSync(directory, 0o700);
  const file = join(directory, 'sluice.db');
  const isNew = !existsSync(file);
  const db = new DatabaseSync(file);
  try {
    configure(db, durability);
    checkFormat(db, directory);
  } catch (error) {
    db.close();
    if (!isBusy(error)) throw error;
    throw new SluiceError(
      'internal',
      `Another process owns the data directory ${directory}; stop it, or give another directory with --data.`,
      { directory },
    );
  }
  if (isNew) chmodSync(file, 0o600);
  return db;
};

/** That of the data directory: call ids carry it. */
export const generationOf = (db: DatabaseSync): string =>
  (db.prepare("SELECT value FROM meta WHERE name = 'generation'").get() as { value: string }).value;
