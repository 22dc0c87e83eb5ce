/** Domain to wire: what the routes answer. */
import type { Call, RowCounts } from '../domain/call.ts';
import type { FunctionRecord, ReplicaReport } from '../domain/function.ts';
import type { ApiKey } from '../store/ports/keys.ts';
import type { FunctionLoad, LogLine } from '../store/ports/registry.ts';
import type { CallJson, FunctionJson, KeyJson, LogLineJson } from './api.ts';
import type { CallIds } from './call-id.ts';
import { presentSpec } from './spec.ts';

const time = (at: number): string => new Date(at).toISOString();
const optionalTime = (at: number | null): string | null => (at === null ? null : time(at));

export const presentCounts = (counts: RowCounts, rows: number): CallJson['counts'] => ({
  ok: counts.ok,
  failed: counts.failed,
  cancelled: counts.cancelled,
  expired: counts.expired,
  unfinished: rows - counts.ok - counts.failed - counts.cancelled - counts.expired,
});

export const presentCall = (call: Call, ids: CallIds, durability: string): CallJson => ({
  call_id: ids.encode(call.id),
  function: call.functionName,
  version: call.versionDigest,
  status: call.status,
  rows: call.rows,
  counts: presentCounts(call.counts, call.rows),
  lane: call.lane,
  priority: call.priority,
  metadata: call.metadata,
  arrived_at: time(call.arrivedAt),
  started_at: optionalTime(call.startedAt),
  finished_at: optionalTime(call.finishedAt),
  deadline_at: optionalTime(call.deadlineAt),
  expires_at: optionalTime(call.expiresAt),
  queue_ms: call.queueMs,
  handler_ms: call.handlerMs,
  durability,
});

/** One line a version: the reports of its workers together, with the first reason that one of them has. */
const presentReplicas = (
  record: FunctionRecord,
  reports: readonly ReplicaReport[],
): FunctionJson['replicas'] =>
  [...Map.groupBy(reports, ({ versionId }) => versionId)].map(([versionId, told]) => ({
    version: record.versions.find(({ id }) => id === versionId)?.digest ?? '',
    ready: told.reduce((sum, { ready }) => sum + ready, 0),
    starting: told.reduce((sum, { starting }) => sum + starting, 0),
    failed: told.reduce((sum, { failed }) => sum + failed, 0),
    reason: told.find(({ reason }) => reason !== null)?.reason ?? null,
    ignored: [...new Set(told.flatMap(({ ignored }) => ignored))],
  }));

export const presentFunction = (
  record: FunctionRecord,
  load: FunctionLoad | undefined,
  reports: readonly ReplicaReport[],
  now: number,
): FunctionJson => ({
  name: record.name,
  version: record.current.digest,
  versions: record.versions.map(({ digest, createdAt }) => ({
    version: digest,
    created_at: time(createdAt),
  })),
  paused: record.paused,
  spec: presentSpec(record.current.spec),
  queue: {
    waiting_calls: load?.waitingCalls ?? 0,
    waiting_rows: load?.waitingRows ?? 0,
    sealed_rows: load?.sealedRows ?? 0,
    oldest_ms: (load?.oldestAt ?? null) === null ? null : Math.max(0, now - load!.oldestAt!),
  },
  replicas: presentReplicas(record, reports),
  created_at: time(record.createdAt),
  updated_at: time(record.updatedAt),
});

export const presentLogLine = (line: LogLine): LogLineJson => ({
  at: time(line.at),
  replica: line.replica,
  stream: line.stream,
  text: line.text,
});

export const keyIdText = (id: number): string => `k${id}`;

export const presentKey = (key: ApiKey, secret?: string): KeyJson => ({
  id: keyIdText(key.id),
  name: key.name,
  scopes: key.scopes,
  prefix: key.prefix,
  created_at: time(key.createdAt),
  ...(secret === undefined ? {} : { secret }),
});
