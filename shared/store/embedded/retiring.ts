/** How versions go: those of removed functions by the sweep, superseded ones when the registry is asked to retire them. */
import type { Registry } from '../ports/registry.ts';
import type { Ledger } from './ledger.ts';
import type { VersionState } from './model.ts';

const META = 'unused_versions';

/** When the last result that is kept now will be gone. */
export const lastExpiry = (ledger: Ledger): number =>
  (ledger.prepare('SELECT max(expires) AS at FROM done').get() as { at: number | null }).at ?? 0;

export const dropVersion = (ledger: Ledger, id: number): void => {
  ledger.prepare('DELETE FROM versions WHERE id = ?').run(id);
  ledger.prepare('DELETE FROM version_sources WHERE version = ?').run(id);
  ledger.versions.delete(id);
  ledger.reports.delete(id);
};

/** Versions by when nothing of them will be readable any more, as `retire` found it. */
export const loadUnused = (ledger: Ledger): void => {
  const row = ledger.db.prepare('SELECT value FROM meta WHERE name = ?').get(META) as
    | { value: string }
    | undefined;
  for (const [id, at] of Object.entries(JSON.parse(row?.value ?? '{}') as Record<string, number>)) {
    const version = ledger.versions.get(Number(id));
    if (version !== undefined) version.unreadableAt = at;
  }
};

const writeUnused = (ledger: Ledger): void => {
  const unused = [...ledger.versions.values()].flatMap(({ id, unreadableAt }) =>
    unreadableAt === null ? [] : [[id, unreadableAt] as const],
  );
  ledger
    .prepare('INSERT OR REPLACE INTO meta VALUES (?, ?)')
    .run(META, JSON.stringify(Object.fromEntries(unused)));
};

/** A version that is deployed again, or gets calls, is not unused any more. */
export const use = (ledger: Ledger, version: VersionState): void => {
  if (version.unreadableAt === null) return;
  version.unreadableAt = null;
  writeUnused(ledger);
};

export const retire = (
  ledger: Ledger,
  { now, name, digests, unusedMs }: Parameters<Registry['retire']>[0],
): readonly string[] => {
  const owner = ledger.functions.get(name);
  if (owner === undefined || owner.isRemoved) return [];
  const hasCalls = ledger.prepare('SELECT 1 AS there FROM live WHERE version = ? LIMIT 1');
  const asked = new Set(digests);
  // SQLite gives the number above the highest that is there: that one's would be another's before all have heard that it went.
  const highest = Math.max(...ledger.versions.keys());
  const gone: VersionState[] = [];
  for (const version of ledger.versions.values()) {
    if (version.owner !== owner || !asked.has(version.digest)) continue;
    const { id, unreadableAt, openBatches } = version;
    const isNamed = id === owner.current || id === owner.staged?.id;
    // Calls that were moved away leave their batches here.
    const isUsed = isNamed || openBatches > 0 || hasCalls.get(id) !== undefined;
    if (isUsed) version.unreadableAt = null;
    else if (unreadableAt === null) version.unreadableAt = Math.max(now, lastExpiry(ledger));
    else if (unreadableAt + unusedMs <= now && id < highest) gone.push(version);
  }
  for (const { id } of gone) dropVersion(ledger, id);
  writeUnused(ledger);
  if (gone.length > 0) ledger.outbox.functions.add(name);
  return gone.map(({ digest }) => digest);
};
