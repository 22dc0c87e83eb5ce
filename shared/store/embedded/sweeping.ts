/**
 * Retention. A swept call is gone (410) until its id falls to the floor, then unknown (404). Floors come from marks:
 * the highest id swept until a time becomes the floor one retention later, so no row is kept for a swept call.
 */
import { hasLiveCall } from './ending.ts';
import type { Ledger } from './ledger.ts';
import { OUTCOME_WIDTH, PART, PART_WIDTH } from './model.ts';
import { unpackNumbers } from './packing.ts';
import { dropVersion } from './retiring.ts';
import { forgetFormer } from './transfer-lineage.ts';
import { type DoneRow, partsOfDone } from './views.ts';

/** Marks kept for one retention: an id is gone for up to a 24th longer than said. */
const MARKS = 24;

type Mark = { readonly at: number; id: number };
const marks = new WeakMap<Ledger, Mark[]>();

export const readMarks = (ledger: Ledger): void => {
  const row = ledger.db.prepare("SELECT value FROM meta WHERE name = 'marks'").get() as
    | { value: string }
    | undefined;
  marks.set(ledger, row === undefined ? [] : (JSON.parse(row.value) as Mark[]));
  const floor = ledger.db.prepare("SELECT value FROM meta WHERE name = 'gone_floor'").get() as
    | { value: number }
    | undefined;
  ledger.goneFloor = floor?.value ?? 0;
};

export const sweep = (
  ledger: Ledger,
  { now, limit }: { readonly now: number; readonly limit: number },
): boolean => {
  const rows = ledger
    .prepare('SELECT * FROM done WHERE expires <= ? ORDER BY expires LIMIT ?')
    .all(now, limit) as DoneRow[];
  const batches = new Set<number>();
  const dropDone = ledger.prepare('DELETE FROM done WHERE id = ?');
  const dropKey = ledger.prepare('DELETE FROM idempotency WHERE call = ?');
  let highest = 0;
  for (const row of rows) {
    const parts = partsOfDone(row);
    for (let at = 3; at < parts.length; at += PART_WIDTH) if (parts[at]! > 0) batches.add(parts[at]!);
    dropDone.run(row.id);
    dropKey.run(row.id);
    highest = Math.max(highest, row.id);
  }
  for (const id of batches) sweepBatch(ledger, id);
  moveFloor(ledger, now, highest);
  dropVersions(ledger, now);
  ledger.segments.cut(now);
  ledger.count('calls_swept', rows.length);
  if (rows.length > 0) ledger.disk.forget();
  return rows.length === limit;
};

type SweptBatch = { settled: number; outcomes: Uint8Array | null; segment: number | null };

/** A batch's record goes with the last call that its outcomes belong to. */
const sweepBatch = (ledger: Ledger, id: number): void => {
  const row = ledger.prepare('SELECT settled, outcomes, segment FROM batches WHERE id = ?').get(id) as
    | SweptBatch
    | undefined;
  if (row === undefined || row.outcomes === null) return;
  const outcomes = unpackNumbers(row.outcomes);
  const isThere = ledger.prepare('SELECT 1 AS there FROM done WHERE id = ?');
  for (let at = 1; at < outcomes.length; at += OUTCOME_WIDTH) {
    if (isThere.get(outcomes[at]!) !== undefined || hasLiveCall(ledger, [outcomes[at]!])) return;
  }
  ledger.sql.dropBatch.run(id);
  ledger.blobs.delete(id);
  if (row.segment !== null) ledger.segments.refer(row.segment, -1);
};

const moveFloor = (ledger: Ledger, now: number, highest: number): void => {
  const known = marks.get(ledger) ?? [];
  const { retentionMs } = ledger.options;
  let [hasMoved, floor] = [false, ledger.goneFloor];
  while (known[0] !== undefined && known[0].at + retentionMs <= now) {
    floor = Math.max(floor, known.shift()!.id);
    hasMoved = true;
  }
  if (highest > 0) {
    const last = known.at(-1);
    const slotEnd = now + retentionMs / MARKS;
    if (last !== undefined && last.at >= now) last.id = Math.max(last.id, highest);
    else known.push({ at: slotEnd, id: highest });
  }
  if (!hasMoved && highest === 0) return;
  marks.set(ledger, known);
  ledger.goneFloor = floor;
  if (hasMoved) forgetFormer(ledger, floor);
  const put = ledger.prepare('INSERT OR REPLACE INTO meta VALUES (?, ?)');
  put.run('marks', JSON.stringify(known));
  put.run('gone_floor', floor);
  put.run('next_call', ledger.nextCall);
  put.run('next_batch', ledger.nextBatch);
};

/** Versions of a removed function go when the last call that names them can be gone. */
const dropVersions = (ledger: Ledger, now: number): void => {
  // A call that was on its way while its function was removed and deployed anew still needs its version.
  const rows = ledger
    .prepare(
      'SELECT id FROM versions WHERE removed <= ? AND NOT EXISTS (SELECT 1 FROM live WHERE version = versions.id)',
    )
    .all(now) as { id: number }[];
  for (const { id } of rows) {
    const owner = ledger.versions.get(id)?.owner;
    dropVersion(ledger, id);
    if (owner === undefined || [...ledger.versions.values()].some((one) => one.owner === owner)) continue;
    ledger.prepare('DELETE FROM functions WHERE id = ?').run(owner.id);
    ledger.functions.delete(owner.name);
  }
};

export const acknowledge = (
  ledger: Ledger,
  { now, callId }: { readonly now: number; readonly callId: number },
): boolean => {
  const expires = now + ledger.options.acknowledgedRetentionMs;
  const { changes } = ledger
    .prepare('UPDATE done SET expires = min(expires, ?) WHERE id = ?')
    .run(expires, callId);
  if (Number(changes) === 0) return false;
  // Who has the result does not read it again: its outputs make room in memory for others'.
  const parts = partsOfDone(ledger.sql.done.get(callId) as DoneRow);
  for (let at = 0; at < parts.length; at += PART_WIDTH)
    if (parts[at] === PART.ok) ledger.blobs.delete(parts[at + 3]!);
  return true;
};
