/** The mark of a migration in a data directory. */
import type { DatabaseSync } from 'node:sqlite';
import type { TransferMark } from '../transfer-mark.ts';

const NAME = 'transfer';

export const readMark = (db: DatabaseSync): TransferMark | null => {
  const row = db.prepare('SELECT value FROM meta WHERE name = ?').get(NAME) as { value: string } | undefined;
  return row === undefined ? null : (JSON.parse(row.value) as TransferMark);
};

export const writeMark = (db: DatabaseSync, mark: TransferMark | null): void => {
  if (mark === null) db.prepare('DELETE FROM meta WHERE name = ?').run(NAME);
  else db.prepare('INSERT OR REPLACE INTO meta VALUES (?, ?)').run(NAME, JSON.stringify(mark));
};
