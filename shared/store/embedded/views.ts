/** What readers see: calls, pages of calls, results. */
import { type Call, isFinished, type RowError } from '../../domain/call.ts';
import { parseExtra } from '../extra.ts';
import type {
  CallPage,
  ListQuery,
  OpenQuery,
  OutputRef,
  ResultPage,
  ResultPart,
  ResultQuery,
} from '../ports/queue.ts';
import { joinParts } from './ending.ts';
import type { Ledger, LiveRow } from './ledger.ts';
import type { OpenMessage } from './messages.ts';
import {
  type LiveCall,
  PART,
  PART_STATES,
  PART_WIDTH,
  STATUS,
  STATUSES,
  type VersionState,
} from './model.ts';
import { Again } from './moving.ts';
import { unpackNumbers } from './packing.ts';
import { readOutput } from './payloads.ts';

/** Ids that one step of a list looks at: some milliseconds. */
const LIST_STEP_IDS = 20_000;
/** Parts in one page of a result: about 1 MiB of messages. */
const PARTS_MAX = 10_000;

export type DoneRow = {
  id: number;
  version: number;
  key: number;
  rows: number;
  bytes: number;
  arrived: number;
  started: number | null;
  finished: number;
  deadline: number | null;
  expires: number;
  status: number;
  failed: number;
  cancelled: number;
  expired: number;
  handler_ms: number;
  extra: string | null;
  batch: number | null;
  output_row: number | null;
  parts: Uint8Array | null;
};

export const liveStatus = (call: LiveCall): number =>
  call.leasedAt !== null || call.startedAt !== null || call.settled > 0 ? STATUS.running : STATUS.pending;

/** The number of a call's status; the call is there. */
export const statusOf = (ledger: Ledger, callId: number): number => {
  const call = ledger.call(callId);
  if (call !== undefined) return liveStatus(call);
  return (ledger.sql.done.get(callId) as DoneRow | undefined)?.status ?? STATUS.completed;
};

const viewLive = (call: LiveCall): Call => {
  const { lane, priority, metadata, traceparent } = parseExtra(call.extra);
  const startedAt = call.startedAt ?? call.leasedAt;
  return {
    id: call.id,
    functionName: call.version.owner.name,
    versionId: call.version.id,
    versionDigest: call.version.digest,
    apiKeyId: call.keyId,
    lane,
    priority,
    rows: call.rows,
    bytes: call.bytes,
    status: STATUSES[liveStatus(call)]!,
    counts: {
      ok: call.settled - call.failed - call.expired,
      failed: call.failed,
      cancelled: 0,
      expired: call.expired,
    },
    arrivedAt: call.arrivedAt,
    startedAt,
    finishedAt: null,
    deadlineAt: call.deadlineAt,
    expiresAt: null,
    metadata,
    traceparent,
    queueMs: startedAt === null ? null : Math.max(startedAt - call.arrivedAt, 0),
    handlerMs: call.handlerMs,
  };
};

const viewDone = (row: DoneRow, version: VersionState | undefined): Call => {
  const { lane, priority, metadata, traceparent } = parseExtra(row.extra);
  return {
    id: row.id,
    functionName: version?.owner.name ?? '',
    versionId: row.version,
    versionDigest: version?.digest ?? '',
    apiKeyId: row.key,
    lane,
    priority,
    rows: row.rows,
    bytes: row.bytes,
    status: STATUSES[row.status]!,
    counts: {
      ok: row.rows - row.failed - row.cancelled - row.expired,
      failed: row.failed,
      cancelled: row.cancelled,
      expired: row.expired,
    },
    arrivedAt: row.arrived,
    startedAt: row.started,
    finishedAt: row.finished,
    deadlineAt: row.deadline,
    expiresAt: row.expires,
    metadata,
    traceparent,
    queueMs: row.started === null ? null : Math.max(row.started - row.arrived, 0),
    handlerMs: row.handler_ms,
  };
};

export const isGone = (ledger: Ledger, callId: number): boolean =>
  callId > ledger.goneFloor && callId < ledger.nextCall;

export const call = (ledger: Ledger, callId: number): Call | 'gone' | undefined => {
  const live = ledger.call(callId);
  if (live !== undefined) return viewLive(live);
  const row = ledger.sql.done.get(callId) as DoneRow | undefined;
  if (row !== undefined) return viewDone(row, ledger.versions.get(row.version));
  return isGone(ledger, callId) ? 'gone' : undefined;
};

export const partsOfDone = (row: DoneRow): number[] => {
  if (row.batch !== null) return [PART.ok, 0, row.rows, row.batch, row.output_row!];
  return row.parts === null ? [] : unpackNumbers(row.parts);
};

export const result = (ledger: Ledger, query: ResultQuery): ResultPage | 'gone' | undefined => {
  const view = call(ledger, query.callId);
  if (view === undefined || view === 'gone') return view;
  const live = ledger.call(query.callId);
  const parts =
    live === undefined
      ? partsOfDone(ledger.sql.done.get(query.callId) as DoneRow)
      : joinParts(live, PART.pending);
  return { call: view, ...page(ledger, parts, query) };
};

const page = (ledger: Ledger, parts: readonly number[], { from, bytesMax }: ResultQuery) => {
  const reader = new PartReader(ledger);
  const taken: ResultPart[] = [];
  for (let at = 0; at < parts.length; at += PART_WIDTH) {
    const [state, first, count, batch, place] = parts.slice(at, at + PART_WIDTH) as [
      number,
      number,
      number,
      number,
      number,
    ];
    const skipped = Math.max(from - first, 0);
    if (skipped >= count) continue;
    const isFirst = taken.length === 0;
    const isOver = taken.length >= PARTS_MAX || (state === PART.ok && reader.bytesWith(batch) > bytesMax);
    if (!isFirst && isOver) return { parts: taken, next: first };
    const shift = state === PART.ok ? skipped : 0;
    taken.push(reader.part(state, first + skipped, count - skipped, batch, place + shift));
  }
  return { parts: taken, next: null };
};

/** Makes parts; each output and each batch's errors are read once. */
export class PartReader {
  readonly #ledger: Ledger;
  readonly #outputs = new Map<number, OutputRef>();
  #errors: { readonly batch: number; readonly list: readonly RowError[] } | undefined;
  #bytes = 0;

  constructor(ledger: Ledger) {
    this.#ledger = ledger;
  }

  /** Output bytes that the page would hold with this batch's output. */
  bytesWith(batch: number): number {
    return this.#outputs.has(batch) ? this.#bytes : this.#bytes + readOutput(this.#ledger, batch).byteLength;
  }

  part(state: number, from: number, count: number, batch: number, place: number): ResultPart {
    if (state === PART.ok) return { state: 'ok', from, count, output: this.output(batch), outputRow: place };
    if (state === PART.failed) return { state: 'failed', from, count, error: this.#error(batch, place) };
    return { state: PART_STATES[state] as 'cancelled' | 'expired' | 'pending', from, count };
  }

  output(batch: number): OutputRef {
    let output = this.#outputs.get(batch);
    if (output === undefined) {
      output = { batchId: batch, bytes: readOutput(this.#ledger, batch) };
      this.#outputs.set(batch, output);
      this.#bytes += output.bytes.byteLength;
    }
    return output;
  }

  #error(batch: number, place: number): RowError {
    if (this.#errors?.batch !== batch) {
      const row = this.#ledger.sql.batchErrors.get(batch) as { errors: string | null } | undefined;
      this.#errors = { batch, list: JSON.parse(row?.errors ?? '[]') as RowError[] };
    }
    return (
      this.#errors.list[place] ?? { code: 'internal', message: `the error of batch ${batch} is not there` }
    );
  }
}

type ListProgress = { readonly found: readonly number[]; readonly below: number };

/** Newest first. A page is full or the last one; a search that goes far goes in steps, so that others are not kept waiting. */
export const list = (
  ledger: Ledger,
  query: ListQuery & { readonly progress?: ListProgress },
): CallPage | Again => {
  const { progress, limit } = query;
  const below = progress?.below ?? Math.min(query.before ?? ledger.nextCall, ledger.nextCall);
  const from = Math.max(below - LIST_STEP_IDS, oldestId(ledger));
  const found = [...(progress?.found ?? [])];
  found.push(...matching(ledger, query, from, below).slice(0, limit - found.length));
  if (found.length < limit && from > oldestId(ledger))
    return new Again({ ...query, progress: { found, below: from } satisfies ListProgress });
  const calls: Call[] = [];
  for (const id of found) {
    const view = call(ledger, id);
    if (view !== undefined && view !== 'gone') calls.push(view);
  }
  return { calls, next: found.length < limit ? null : found.at(-1)! };
};

const oldestId = (ledger: Ledger): number => {
  const { live, done } = ledger
    .prepare('SELECT (SELECT min(id) FROM live) AS live, (SELECT min(id) FROM done) AS done')
    .get() as { live: number | null; done: number | null };
  return Math.min(live ?? ledger.nextCall, done ?? ledger.nextCall);
};

/** Ids in [from, below) of calls that the query wants, newest first; of each table at most a page. */
const matching = (ledger: Ledger, query: ListQuery, from: number, below: number): number[] => {
  const { functionName, status, apiKeyId, limit } = query;
  const versions =
    functionName === null
      ? null
      : [...ledger.versions.values()].filter(({ owner }) => owner.name === functionName).map(({ id }) => id);
  const wanted = status === null ? null : STATUSES.indexOf(status);
  const ids: number[] = [];
  for (const table of ['live', 'done']) {
    if (wanted !== null && isFinished(STATUSES[wanted]!) !== (table === 'done')) continue;
    const isStatus = table === 'done' ? '(?5 IS NULL OR status = ?5)' : '?5 IS ?5';
    const rows = ledger
      .prepare(
        `SELECT id FROM ${table} WHERE id >= ?1 AND id < ?2 AND (?3 IS NULL OR version IN (SELECT value FROM json_each(?3))) AND (?4 IS NULL OR key = ?4) AND ${isStatus} ORDER BY id DESC`,
      )
      .iterate(from, below, versions && JSON.stringify(versions), apiKeyId, wanted);
    let taken = 0;
    for (const { id } of rows as Iterable<{ id: number }>) {
      // A call that is only in its table waits.
      const live = table === 'live' ? ledger.live.get(id) : undefined;
      if (table === 'live' && wanted !== null && wanted !== (live ? liveStatus(live) : STATUS.pending))
        continue;
      ids.push(id);
      taken += 1;
      if (taken === limit) break;
    }
  }
  return ids.sort((a, b) => b - a);
};

/** Waiting calls after an id, oldest first. A page may be short although `next` is set. */
export const open = (ledger: Ledger, { versionId, after, limit }: OpenQuery): OpenMessage => {
  const columns = 'id, version, rows, bytes, arrived, deadline, extra';
  const rows = (
    versionId === null
      ? ledger.prepare(`SELECT ${columns} FROM live WHERE id > ? ORDER BY id LIMIT ?`).all(after, limit)
      : ledger
          .prepare(`SELECT ${columns} FROM live WHERE version = ? AND id > ? ORDER BY id LIMIT ?`)
          .all(versionId, after, limit)
  ) as LiveRow[];
  const [numbers, extras]: [number[], (string | null)[]] = [[], []];
  for (const row of rows) {
    const sealed = ledger.live.get(row.id)?.sealed ?? 0;
    if (sealed === row.rows) continue;
    const { id, version, rows: all, bytes, arrived, deadline } = row;
    numbers.push(id, version, sealed, all - sealed, bytes, arrived, deadline ?? Number.NaN);
    extras.push(row.extra);
  }
  return { numbers, extras, next: rows.length < limit ? null : rows.at(-1)!.id };
};
