/**
 * Documents: their bytes lie in parts, and a large one is written, read and dropped in steps, each one commit's share, so
 * that others are not kept waiting.
 *
 *   put: part, part, … (of a revision that nothing names yet) ─► compare, name it ─► drop the parts of the one before
 *
 * A stop in between leaves parts of a revision that no document has; the next start drops them.
 */
import type { DocumentName, DocumentsQuery, StoredBytes } from '../documents.ts';
import { diskFull } from './admission.ts';
import type { Ledger } from './ledger.ts';
import { Again } from './moving.ts';

/** Some 10 ms to write. 48 of them hold the largest document. */
const DOCUMENT_PART_BYTES = 2 * 2 ** 20;
/** Of one revision. Stored in the ids of parts: never change it. */
const PARTS_MAX = 64;
/** Parts dropped in one step: SQLite reads through their pages. */
const STEP_PARTS = 4;
/** Above this a document is refused while the disk is at its limit; below it, changes of what is there go on. */
const SMALL_BYTES = 64 * 1024;
/** Bytes of one answer to `list`; what goes beyond is asked for by itself. */
const LIST_BYTES = 4 * 2 ** 20;

const partId = (revision: number, part: number): number => revision * PARTS_MAX + part;
const partsOf = (bytes: number): number => Math.max(1, Math.ceil(bytes / DOCUMENT_PART_BYTES));

type Row = { readonly revision: number; readonly bytes: number };

const find = (
  ledger: Ledger,
  { kind, key }: { readonly kind: string; readonly key: string },
): Row | undefined =>
  ledger.prepare('SELECT revision, bytes FROM documents WHERE kind = ? AND key = ?').get(kind, key) as
    | Row
    | undefined;

const nextRevision = (ledger: Ledger): number => {
  const row = ledger
    .prepare(
      "INSERT INTO meta VALUES ('document_revision', 1) ON CONFLICT(name) DO UPDATE SET value = value + 1 RETURNING value",
    )
    .get() as { value: number };
  return row.value;
};

const readPart = (ledger: Ledger, id: number): Uint8Array => {
  const row = ledger.prepare('SELECT bytes FROM document_parts WHERE id = ?').get(id) as {
    bytes: Uint8Array;
  };
  return row.bytes;
};

/** SQLite takes no shared memory, so a part is copied. */
const addPart = (ledger: Ledger, revision: number, part: number, bytes: Uint8Array): void => {
  const some = bytes.subarray(part * DOCUMENT_PART_BYTES, (part + 1) * DOCUMENT_PART_BYTES);
  ledger
    .prepare('INSERT OR REPLACE INTO document_parts VALUES (?, ?)')
    .run(partId(revision, part), new Uint8Array(some));
};

const dropParts = (ledger: Ledger, revision: number, from: number, to: number): void => {
  const drop = ledger.prepare('DELETE FROM document_parts WHERE id = ?');
  for (let part = from; part < to; part += 1) drop.run(partId(revision, part));
};

type Put = DocumentName & { readonly revision: number | null; readonly bytes: Uint8Array };
type Writing = { readonly revision: number; readonly part: number };
/** Parts of a revision that is none any more, and what is answered when they are gone. */
type Dropping<T> = {
  readonly revision: number;
  readonly bytes: number;
  readonly part: number;
  readonly answer: T;
};

/** The answer, after the steps that drop the parts of a large revision. */
const dropping = <T>(
  ledger: Ledger,
  query: object,
  { revision, bytes, part, answer }: Dropping<T>,
): T | Again => {
  const parts = partsOf(bytes);
  const to = Math.min(part + STEP_PARTS, parts);
  dropParts(ledger, revision, part, to);
  if (to === parts) return answer;
  ledger.isLogLong = true;
  return new Again({ ...query, dropping: { revision, bytes, part: to, answer } });
};

const checkRoom = (ledger: Ledger, { bytes }: Put): void => {
  if (bytes.byteLength > SMALL_BYTES && ledger.disk.isFullFor(bytes.byteLength))
    throw diskFull(ledger.options.limitBytes);
};

export const putDocument = (
  ledger: Ledger,
  query: Put & { readonly writing?: Writing; readonly dropping?: Dropping<number | null> },
): number | null | Again => {
  if (query.dropping !== undefined) return dropping(ledger, query, query.dropping);
  const { kind, key, bytes, writing } = query;
  const found = find(ledger, query);
  const parts = partsOf(bytes.byteLength);
  const isCurrent = (found?.revision ?? null) === query.revision;
  if (writing === undefined) {
    if (!isCurrent) return null;
    checkRoom(ledger, query);
  }
  if (ledger.isRefusing) throw diskFull(ledger.options.limitBytes);
  const { revision, part } = writing ?? { revision: nextRevision(ledger), part: 0 };
  if (!isCurrent) {
    const lost = { revision, bytes: part * DOCUMENT_PART_BYTES, part: 0, answer: null };
    return dropping(ledger, query, lost);
  }
  addPart(ledger, revision, part, bytes);
  if (part + 1 < parts) {
    ledger.isLogLong = true;
    return new Again({ ...query, writing: { revision, part: part + 1 } });
  }
  ledger
    .prepare('INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)')
    .run(kind, key, revision, bytes.byteLength);
  return found === undefined ? revision : dropping(ledger, query, { ...found, part: 0, answer: revision });
};

export const removeDocument = (
  ledger: Ledger,
  query: DocumentName & { readonly revision: number; readonly dropping?: Dropping<boolean> },
): boolean | Again => {
  if (query.dropping !== undefined) return dropping(ledger, query, query.dropping);
  const found = find(ledger, query);
  if (found?.revision !== query.revision) return false;
  ledger.prepare('DELETE FROM documents WHERE kind = ? AND key = ?').run(query.kind, query.key);
  return dropping(ledger, query, { ...found, part: 0, answer: true });
};

type Reading = { readonly revision: number; readonly part: number; readonly bytes: Uint8Array };

/** A large one is read into memory that the asking thread shares. */
export const getDocument = (
  ledger: Ledger,
  query: DocumentName & { readonly reading?: Reading },
): Omit<StoredBytes, 'key'> | undefined | Again => {
  const found = find(ledger, query);
  if (found === undefined) return undefined;
  const { revision } = found;
  if (partsOf(found.bytes) === 1) return { revision, bytes: readPart(ledger, partId(revision, 0)) };
  const { reading } = query;
  // Another one was written meanwhile: that one is read from its beginning.
  const { part, bytes } =
    reading?.revision === revision
      ? reading
      : { part: 0, bytes: new Uint8Array(new SharedArrayBuffer(found.bytes)) };
  bytes.set(readPart(ledger, partId(revision, part)), part * DOCUMENT_PART_BYTES);
  if (part + 1 === partsOf(found.bytes)) return { revision, bytes };
  return new Again({ ...query, reading: { revision, part: part + 1, bytes } });
};

export type ListedDocument = {
  readonly key: string;
  readonly revision: number;
  /** null: it is too large for this answer. */
  readonly bytes: Uint8Array | null;
};

export const listDocuments = (
  ledger: Ledger,
  { kind, prefix, after, limit }: DocumentsQuery,
): ListedDocument[] => {
  const rows = ledger
    .prepare(
      'SELECT key, revision, bytes FROM documents WHERE kind = ?1 AND key >= ?2 AND key < ?3 AND key > ?4 ORDER BY key LIMIT ?5',
    )
    .all(kind, prefix, `${prefix}~`, after, limit) as (Row & { readonly key: string })[];
  let left = LIST_BYTES;
  return rows.map(({ key, revision, bytes }) => {
    if (bytes > Math.min(left, DOCUMENT_PART_BYTES)) return { key, revision, bytes: null };
    left -= bytes;
    return { key, revision, bytes: readPart(ledger, partId(revision, 0)) };
  });
};

/** All of it at once; for who serves nobody meanwhile. */
export const wholeDocument = (
  ledger: Ledger,
  name: { readonly kind: string; readonly key: string },
): Uint8Array => {
  const { revision, bytes } = find(ledger, name)!;
  const parts = Array.from({ length: partsOf(bytes) }, (_, part) => readPart(ledger, partId(revision, part)));
  return Buffer.concat(parts);
};

/** Writes one under a revision that it has elsewhere. */
export const takeDocument = (
  ledger: Ledger,
  { kind, key, revision, bytes }: StoredBytes & { readonly kind: string },
): void => {
  for (let part = 0; part < partsOf(bytes.byteLength); part += 1) addPart(ledger, revision, part, bytes);
  ledger
    .prepare('INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)')
    .run(kind, key, revision, bytes.byteLength);
};

export const lastRevision = (ledger: Ledger): number => {
  const row = ledger.prepare("SELECT value FROM meta WHERE name = 'document_revision'").get() as
    | { value: number }
    | undefined;
  return row?.value ?? 0;
};

export const setLastRevision = (ledger: Ledger, revision: number): void => {
  ledger.prepare("INSERT OR REPLACE INTO meta VALUES ('document_revision', ?)").run(revision);
};

/** At the start: what a stop in the middle of a large change has left. */
export const dropUnnamedParts = (ledger: Ledger): void => {
  const left = ledger.db
    .prepare(
      `SELECT DISTINCT id / ${PARTS_MAX} AS revision FROM document_parts WHERE id / ${PARTS_MAX} NOT IN (SELECT revision FROM documents)`,
    )
    .all() as { revision: number }[];
  for (const { revision } of left) dropParts(ledger, revision, 0, PARTS_MAX);
};
