/** The ids that calls had in the stores which they were moved out of. The table is there only where something was moved in. */
import type { DatabaseSync } from 'node:sqlite';
import type { FormerId } from '../ports/transfer.ts';
import type { Ledger } from './ledger.ts';

export const FORMER_TABLE = `
CREATE TABLE IF NOT EXISTS former(tag TEXT, id INTEGER, call INTEGER NOT NULL, PRIMARY KEY(tag, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS former_call ON former(call);`;

export const hasTable = (db: DatabaseSync, name: string): boolean =>
  db.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?").get(name) !== undefined;

export const resolveFormer = (ledger: Ledger, { tag, id }: FormerId): number | null => {
  if (!hasTable(ledger.db, 'former')) return null;
  const row = ledger.prepare('SELECT call FROM former WHERE tag = ? AND id = ?').get(tag, id) as
    | { call: number }
    | undefined;
  return row?.call ?? null;
};

/** Ids that nobody is told to be gone any more need no entry. */
export const forgetFormer = (ledger: Ledger, floor: number): void => {
  if (hasTable(ledger.db, 'former')) ledger.prepare('DELETE FROM former WHERE call <= ?').run(floor);
};

/**
 * When calls first ran and for how long, where their batches' records cannot say it: those came from another store.
 * Read at the start for calls that are unfinished.
 */
export const CARRIED_TABLE =
  'CREATE TABLE IF NOT EXISTS carried(call INTEGER PRIMARY KEY, started INTEGER, handler_ms REAL NOT NULL);';

export const loadCarried = (ledger: Ledger): void => {
  if (!hasTable(ledger.db, 'carried')) return;
  const rows = ledger.db.prepare('SELECT call, started, handler_ms FROM carried').iterate() as Iterable<{
    call: number;
    started: number | null;
    handler_ms: number;
  }>;
  for (const row of rows) {
    const call = ledger.live.get(row.call);
    if (call === undefined) continue;
    if (row.started !== null) call.startedAt = Math.min(call.startedAt ?? row.started, row.started);
    call.handlerMs += row.handler_ms;
  }
};
