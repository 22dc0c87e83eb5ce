/** What a data directory says of a migration: that it is leaving, has left, or is not wholly here yet. */
import type { DatabaseSync } from 'node:sqlite';
import { SluiceError } from '../../errors/sluice-error.ts';
import type { TransferPosition } from '../ports/transfer.ts';

export type TransferMark =
  | { readonly state: 'leaving' | 'left'; readonly id: string; readonly to: string; readonly begunAt: number }
  | {
      readonly state: 'arriving' | 'arrived';
      readonly id: string;
      readonly from: string;
      readonly position: TransferPosition;
    };

const NAME = 'transfer';

export const readMark = (db: DatabaseSync): TransferMark | null => {
  const row = db.prepare('SELECT value FROM meta WHERE name = ?').get(NAME) as { value: string } | undefined;
  return row === undefined ? null : (JSON.parse(row.value) as TransferMark);
};

export const writeMark = (db: DatabaseSync, mark: TransferMark | null): void => {
  if (mark === null) db.prepare('DELETE FROM meta WHERE name = ?').run(NAME);
  else db.prepare('INSERT OR REPLACE INTO meta VALUES (?, ?)').run(NAME, JSON.stringify(mark));
};

/** A directory that is leaving, has left or is arriving would run calls twice, or half of them. */
export const checkServable = (db: DatabaseSync, directory: string): void => {
  const mark = readMark(db);
  if (mark === null || mark.state === 'arrived') return;
  if (mark.state === 'left') {
    throw new SluiceError('internal', `What was in the data directory ${directory} moved to ${mark.to}.`, {
      fix: 'Serve that one; this directory may be removed.',
    });
  }
  const [from, to] = 'to' in mark ? [`embedded:${directory}`, mark.to] : [mark.from, `embedded:${directory}`];
  throw new SluiceError('internal', `The data directory ${directory} is in the middle of a migration.`, {
    fix: `Finish it with \`sluice migrate --from ${from} --to ${to}\`, or give it up with --abandon as well.`,
  });
};
