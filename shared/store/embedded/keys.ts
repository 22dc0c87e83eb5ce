/** The keys port over its table. */
import type { ApiKey, Keys, Scope } from '../ports/keys.ts';
import type { Ledger } from './ledger.ts';

type KeyRow = { id: number; name: string; scopes: string; prefix: string; created: number };

const toKey = ({ id, name, scopes, prefix, created }: KeyRow): ApiKey => ({
  id,
  name,
  scopes: JSON.parse(scopes) as Scope[],
  prefix,
  createdAt: created,
});

export const createKey = (ledger: Ledger, query: Parameters<Keys['create']>[0]): ApiKey => {
  const { now, name, scopes, secretHash, prefix } = query;
  const { lastInsertRowid } = ledger
    .prepare('INSERT INTO keys(name, scopes, prefix, hash, created) VALUES (?,?,?,?,?)')
    .run(name, JSON.stringify(scopes), prefix, secretHash, now);
  return { id: Number(lastInsertRowid), name, scopes, prefix, createdAt: now };
};

export const listKeys = (ledger: Ledger): ApiKey[] =>
  (ledger.prepare('SELECT * FROM keys ORDER BY id').all() as KeyRow[]).map(toKey);

export const revokeKey = (ledger: Ledger, id: number): boolean =>
  Number(ledger.prepare('DELETE FROM keys WHERE id = ?').run(id).changes) > 0;

export const findKey = (ledger: Ledger, secretHash: string): ApiKey | undefined => {
  const row = ledger.prepare('SELECT * FROM keys WHERE hash = ?').get(secretHash) as KeyRow | undefined;
  return row && toKey(row);
};
