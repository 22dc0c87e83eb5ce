/** The statements of the hot path, prepared once. Those of rare verbs lie beside their verbs. */
import type { DatabaseSync, StatementSync } from 'node:sqlite';

const TEXTS = {
  begin: 'BEGIN',
  commit: 'COMMIT',
  rollback: 'ROLLBACK',
  addLive:
    'INSERT INTO live(id, version, key, rows, bytes, arrived, deadline, due, extra, segment, at, length, kind, payload) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)',
  live: 'SELECT id, version, key, rows, bytes, arrived, deadline, extra, segment, at, length, kind FROM live WHERE id = ?',
  livePayload: 'SELECT payload FROM live WHERE id = ?',
  dropLive: 'DELETE FROM live WHERE id = ?',
  addDone: 'INSERT INTO done VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)',
  done: 'SELECT * FROM done WHERE id = ?',
  addBatch:
    'INSERT INTO batches(id, version, settled, reason, mode, attempts, claims, not_before, handler_ms, slices) VALUES (?,?,0,?,?,?,?,?,0,?)',
  addOutcomes:
    'INSERT INTO batches(id, version, settled, reason, mode, attempts, claims, not_before, started, handler_ms, outcomes, errors, segment, at, length, output) VALUES (?,?,?,?,?,?,?,0,?,?,?,?,?,?,?,?)',
  settleBatch:
    'UPDATE batches SET settled = ?, started = ?, handler_ms = ?, slices = NULL, outcomes = ?, errors = ?, segment = ?, at = ?, length = ?, output = ? WHERE id = ?',
  resealBatch:
    'UPDATE batches SET mode = ?, attempts = ?, claims = ?, not_before = ?, handler_ms = ?, slices = ? WHERE id = ?',
  dropBatch: 'DELETE FROM batches WHERE id = ?',
  batchOutput: 'SELECT segment, at, length, output FROM batches WHERE id = ?',
  batchErrors: 'SELECT errors FROM batches WHERE id = ?',
  idempotent: 'SELECT digest, call FROM idempotency WHERE key = ? AND function = ? AND name = ?',
  addIdempotent: 'INSERT INTO idempotency VALUES (?,?,?,?,?)',
  dropIdempotent: 'DELETE FROM idempotency WHERE call = ?',
  clearDue: 'UPDATE live SET due = NULL WHERE id = ?',
} as const;

export type Statements = { readonly [K in keyof typeof TEXTS]: StatementSync };

export const prepareStatements = (db: DatabaseSync): Statements =>
  Object.fromEntries(Object.entries(TEXTS).map(([name, text]) => [name, db.prepare(text)])) as Statements;
