/** The registry: functions, their versions, what replicas report, and the lines that handlers print. */
import type { RowCounts } from '../../domain/call.ts';
import type {
  Batching,
  FunctionRecord,
  FunctionSpec,
  FunctionVersion,
  ReplicaReport,
  SourceFile,
} from '../../domain/function.ts';
import { functionBusy } from '../function-refusals.ts';
import type { DeployAnswer, FunctionLoad, FunctionUpdate, LogLine, Registry } from '../ports/registry.ts';
import { digestOf } from '../spec-digest.ts';
import type { Ledger } from './ledger.ts';
import { addVersion, newFunction } from './loading.ts';
import { type FunctionState, PART, type VersionState } from './model.ts';
import { lastExpiry, use } from './retiring.ts';

/** Log lines kept of a function, in memory. */
const LOG_LINES_MAX = 1000;

export const deploy = (ledger: Ledger, query: Parameters<Registry['deploy']>[0]): DeployAnswer => {
  const { now, spec, isStaged = false, scaling } = query;
  const digest = digestOf(spec);
  const owner = ledger.functions.get(spec.name) ?? addFunction(ledger, spec.name, now);
  const known = ledger
    .prepare('SELECT id, removed FROM versions WHERE function = ? AND digest = ?')
    .get(owner.id, digest) as { id: number; removed: number | null } | undefined;
  let id = known?.id;
  if (id === undefined) id = insertVersion(ledger, owner, digest, spec, now);
  const created = known === undefined || known.removed !== null;
  // A deploy says what batching shall be, so that a live update of the same version ends with it.
  ledger
    .prepare('UPDATE versions SET removed = NULL, batching = ?, created = iif(?, ?, created) WHERE id = ?')
    .run(JSON.stringify(spec.batching), Number(created), now, id);
  const version = ledger.version(id);
  version.batching = spec.batching;
  use(ledger, version);
  if (scaling !== undefined) owner.scaling = scaling;
  if (owner.staged?.id === id) {
    if (!isStaged) activate(owner);
  } else {
    dropStaged(ledger, owner);
    const hasCurrent = owner.current !== 0 && !owner.isRemoved && owner.current !== id;
    if (isStaged && hasCurrent) owner.staged = { id, isNew: created };
    else owner.current = id;
  }
  if (owner.isRemoved) beginAnew(owner, now);
  touch(ledger, owner, now);
  return { record: record(ledger, owner), created };
};

/** Only its number, by which old calls are known, is left of a removed function. */
const beginAnew = (owner: FunctionState, now: number): void => {
  owner.isRemoved = false;
  owner.paused = false;
  owner.createdAt = now;
};

const activate = (owner: FunctionState): void => {
  owner.current = owner.staged?.id ?? owner.current;
  owner.staged = null;
};

/** The wait of a staged version ends; one that was never current goes, as versions of removed functions do. */
const dropStaged = (ledger: Ledger, owner: FunctionState): void => {
  if (owner.staged?.isNew === true)
    ledger.prepare('UPDATE versions SET removed = ? WHERE id = ?').run(lastExpiry(ledger), owner.staged.id);
  owner.staged = null;
};

export const settleStaged = (
  ledger: Ledger,
  { now, name, digest, end }: Parameters<Registry['settleStaged']>[0],
): boolean => {
  const owner = find(ledger, name);
  if (owner?.staged == null || ledger.version(owner.staged.id).digest !== digest) return false;
  if (end === 'activate') activate(owner);
  else dropStaged(ledger, owner);
  touch(ledger, owner, now);
  return true;
};

const addFunction = (ledger: Ledger, name: string, now: number): FunctionState => {
  const { lastInsertRowid } = ledger
    .prepare('INSERT INTO functions(name, current, paused, created, updated) VALUES (?, 0, 0, ?, ?)')
    .run(name, now, now);
  const owner = newFunction(Number(lastInsertRowid), name, 0, now);
  ledger.functions.set(name, owner);
  return owner;
};

const insertVersion = (
  ledger: Ledger,
  owner: FunctionState,
  digest: string,
  spec: FunctionSpec,
  now: number,
): number => {
  const { source, ...rest } = spec;
  const { lastInsertRowid } = ledger
    .prepare('INSERT INTO versions(function, digest, created, spec, batching) VALUES (?,?,?,?,?)')
    .run(owner.id, digest, now, JSON.stringify({ ...rest, source: [] }), JSON.stringify(spec.batching));
  const id = Number(lastInsertRowid);
  ledger.prepare('INSERT INTO version_sources VALUES (?, ?)').run(id, JSON.stringify(source));
  addVersion(ledger, id, digest, owner, spec.isolation, spec.batching);
  return id;
};

const touch = (ledger: Ledger, owner: FunctionState, now: number): void => {
  owner.updatedAt = now;
  ledger
    .prepare(
      'UPDATE functions SET current = ?, staged = ?, staged_new = ?, scaling = ?, paused = ?, created = ?, updated = ?, removed = NULL WHERE id = ?',
    )
    .run(
      owner.current,
      owner.staged?.id ?? null,
      owner.staged === null ? null : Number(owner.staged.isNew),
      owner.scaling === null ? null : JSON.stringify(owner.scaling),
      owner.paused ? 1 : 0,
      owner.createdAt,
      now,
      owner.id,
    );
  ledger.outbox.functions.add(owner.name);
};

type VersionRow = { id: number; digest: string; created: number; spec: string; batching: string };

const record = (ledger: Ledger, owner: FunctionState): FunctionRecord => {
  const rows = ledger
    .prepare(
      'SELECT id, digest, created, spec, batching FROM versions WHERE function = ? AND removed IS NULL ORDER BY created DESC, id DESC',
    )
    .all(owner.id) as VersionRow[];
  const versions = rows.map(
    (row): FunctionVersion => ({
      id: row.id,
      digest: row.digest,
      createdAt: row.created,
      spec: { ...(JSON.parse(row.spec) as FunctionSpec), batching: JSON.parse(row.batching) as Batching },
    }),
  );
  return {
    id: owner.id,
    name: owner.name,
    current: versions.find((version) => version.id === owner.current)!,
    versions,
    staged: versions.find((version) => version.id === owner.staged?.id) ?? null,
    scaling: owner.scaling,
    paused: owner.paused,
    createdAt: owner.createdAt,
    updatedAt: owner.updatedAt,
  };
};

export const functions = (ledger: Ledger): FunctionRecord[] =>
  [...ledger.functions.values()].filter((owner) => !owner.isRemoved).map((owner) => record(ledger, owner));

const find = (ledger: Ledger, name: string): FunctionState | undefined => {
  const owner = ledger.functions.get(name);
  return owner === undefined || owner.isRemoved ? undefined : owner;
};

export const functionOf = (ledger: Ledger, name: string): FunctionRecord | undefined => {
  const owner = find(ledger, name);
  return owner && record(ledger, owner);
};

export const sourceOf = (ledger: Ledger, versionId: number): readonly SourceFile[] | undefined => {
  const row = ledger.prepare('SELECT source FROM version_sources WHERE version = ?').get(versionId) as
    | { source: string }
    | undefined;
  return row && (JSON.parse(row.source) as SourceFile[]);
};

export const update = (
  ledger: Ledger,
  query: { readonly now: number; readonly name: string; readonly update: FunctionUpdate },
): FunctionRecord | undefined => {
  const owner = find(ledger, query.name);
  if (owner === undefined) return undefined;
  const { paused, batching, scaling } = query.update;
  if (scaling !== undefined) owner.scaling = scaling;
  if (paused !== undefined) owner.paused = paused;
  if (batching !== undefined) {
    const version = ledger.version(owner.current);
    version.batching = { ...version.batching, ...batching };
    ledger
      .prepare('UPDATE versions SET batching = ? WHERE id = ?')
      .run(JSON.stringify(version.batching), version.id);
  }
  touch(ledger, owner, query.now);
  return record(ledger, owner);
};

/** Versions stay as long as finished calls may name them; see sweeping.ts. */
export const remove = (ledger: Ledger, name: string): boolean => {
  const owner = find(ledger, name);
  if (owner === undefined) return false;
  if (owner.liveCalls > 0) {
    throw functionBusy(name, owner.liveCalls);
  }
  const last = lastExpiry(ledger);
  owner.isRemoved = true;
  owner.staged = null;
  owner.scaling = null;
  ledger.logs.delete(name);
  ledger
    .prepare(
      'UPDATE functions SET removed = ?, staged = NULL, staged_new = NULL, scaling = NULL WHERE id = ?',
    )
    .run(last, owner.id);
  ledger
    .prepare('UPDATE versions SET removed = ? WHERE function = ? AND removed IS NULL')
    .run(last, owner.id);
  ledger.outbox.functions.add(name);
  return true;
};

export const report = (
  ledger: Ledger,
  { now, report: told }: { readonly now: number; readonly report: ReplicaReport },
): void => {
  const workers = ledger.reports.get(told.versionId) ?? new Map<string, ReplicaReport>();
  workers.set(told.workerId, told);
  for (const [workerId, { until }] of workers) if (until <= now) workers.delete(workerId);
  if (workers.size > 0) ledger.reports.set(told.versionId, workers);
  else ledger.reports.delete(told.versionId);
};

const versionsOf = (ledger: Ledger, owner: FunctionState): VersionState[] =>
  [...ledger.versions.values()].filter((version) => version.owner === owner);

export const reports = (
  ledger: Ledger,
  { now, name }: { readonly now: number; readonly name: string },
): ReplicaReport[] => {
  const owner = find(ledger, name);
  if (owner === undefined) return [];
  return versionsOf(ledger, owner).flatMap((version) =>
    [...(ledger.reports.get(version.id)?.values() ?? [])].filter(({ until }) => until > now),
  );
};

export const load = (ledger: Ledger): FunctionLoad[] =>
  [...ledger.functions.values()]
    .filter((owner) => !owner.isRemoved)
    .map((owner) => loadOfOwner(ledger, owner));

export const loadOf = (ledger: Ledger, name: string): FunctionLoad | undefined => {
  const owner = find(ledger, name);
  return owner && loadOfOwner(ledger, owner);
};

const loadOfOwner = (ledger: Ledger, owner: FunctionState): FunctionLoad => ({
  functionName: owner.name,
  waitingRows: owner.waitingRows,
  sealedRows: owner.sealedRows,
  waitingCalls: owner.waitingCalls,
  endedRows: countsOf(owner.endedRows),
  ...(owner.waitingCalls === 0 ? NONE_WAITS : oldestOf(ledger, owner)),
  sealedVersions:
    owner.sealedRows === 0
      ? []
      : versionsOf(ledger, owner).flatMap(({ id, openBatches }) => (openBatches > 0 ? [id] : [])),
});

const countsOf = (rows: readonly number[]): RowCounts => ({
  ok: rows[PART.ok]!,
  failed: rows[PART.failed]!,
  cancelled: rows[PART.cancelled]!,
  expired: rows[PART.expired]!,
});

type Oldest = Pick<FunctionLoad, 'oldestAt' | 'oldestVersionId'>;
const NONE_WAITS: Oldest = { oldestAt: null, oldestVersionId: null };

/** The oldest waiting call. Sealing goes front to back, so the search goes on where it ended. */
const oldestOf = (ledger: Ledger, owner: FunctionState): Oldest => {
  let oldest = NONE_WAITS;
  const next = ledger.prepare(
    'SELECT id, rows, arrived FROM live WHERE version = ? AND id >= ? ORDER BY id LIMIT 1',
  );
  for (const version of versionsOf(ledger, owner)) {
    for (let from = version.oldestHint; ; ) {
      const row = next.get(version.id, from) as { id: number; rows: number; arrived: number } | undefined;
      if (row === undefined) break;
      if ((ledger.live.get(row.id)?.sealed ?? 0) < row.rows) {
        version.oldestHint = row.id;
        if (oldest.oldestAt === null || row.arrived < oldest.oldestAt)
          oldest = { oldestAt: row.arrived, oldestVersionId: version.id };
        break;
      }
      from = row.id + 1;
    }
  }
  return oldest;
};

export const appendLogs = (ledger: Ledger, lines: readonly LogLine[]): void => {
  for (const line of lines) {
    // Handlers of a removed function print until they are gone.
    if (find(ledger, line.functionName) === undefined) continue;
    const kept = ledger.logs.get(line.functionName) ?? [];
    ledger.logs.set(line.functionName, kept);
    kept.push(line);
    // Cut seldom, by half: moving the whole list for each line would cost more than keeping twice as many.
    if (kept.length > LOG_LINES_MAX * 2) kept.splice(0, kept.length - LOG_LINES_MAX);
  }
};

export const logs = (
  ledger: Ledger,
  { name, limit }: { readonly name: string; readonly limit: number },
): readonly LogLine[] => {
  const count = Math.min(limit, LOG_LINES_MAX);
  return count <= 0 ? [] : (ledger.logs.get(name) ?? []).slice(-count);
};
