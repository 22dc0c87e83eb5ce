/** Reads the tables into memory: at the start, and again after a commit that found the disk full. */
import type { Batching, FunctionSpec } from '../../domain/function.ts';
import type { Scaling } from '../../domain/scaling.ts';
import { dropUnnamedParts } from './documents.ts';
import { isNoSpace } from './errors.ts';
import type { Ledger } from './ledger.ts';
import {
  addPart,
  type Batch,
  type FunctionState,
  holdBatch,
  type LiveCall,
  OUTCOME_WIDTH,
  PART,
  PART_WIDTH,
  SLICE_WIDTH,
} from './model.ts';
import { unpackNumbers } from './packing.ts';
import { loadUnused } from './retiring.ts';
import { makeReady, takeRows } from './sealing.ts';
import { readMarks } from './sweeping.ts';
import { loadCarried } from './transfer-lineage.ts';

export const load = (ledger: Ledger, isOpening: boolean): void => {
  ledger.clear();
  loadFunctions(ledger);
  loadUnused(ledger);
  loadCounters(ledger);
  loadBatches(ledger);
  loadOutcomes(ledger);
  loadCarried(ledger);
  for (const table of ['live', 'batches']) {
    const rows = ledger.db
      .prepare(`SELECT segment, count(*) AS n FROM ${table} WHERE segment IS NOT NULL GROUP BY segment`)
      .all() as { segment: number; n: number }[];
    for (const { segment, n } of rows) ledger.segments.refer(segment, n);
  }
  readMarks(ledger);
  if (isOpening) repair(ledger);
};

/** Writes what makes the next start faster; a disk without room lets it be. */
const repair = (ledger: Ledger): void => {
  ledger.db.exec('BEGIN');
  try {
    // Deadlines whose handling was still under way are handled again: nothing is leased now.
    ledger.db.exec('UPDATE live SET due = deadline WHERE due IS NULL AND deadline IS NOT NULL');
    const open = ledger.db.prepare('SELECT id FROM batches WHERE settled = 0').all() as { id: number }[];
    for (const { id } of open) if (!ledger.batches.has(id)) ledger.sql.dropBatch.run(id);
    const partly = new Set<number>();
    for (const call of ledger.live.values()) {
      for (let at = 3; at < call.parts.length; at += PART_WIDTH) partly.add(call.parts[at]!);
    }
    const settled = ledger.db.prepare('SELECT id FROM batches WHERE settled = 1').all() as { id: number }[];
    const markWhole = ledger.db.prepare('UPDATE batches SET settled = 2 WHERE id = ?');
    for (const { id } of settled) if (!partly.has(id)) markWhole.run(id);
    dropUnnamedParts(ledger);
    ledger.db.exec('COMMIT');
  } catch (error) {
    if (ledger.db.isTransaction) ledger.db.exec('ROLLBACK');
    if (!isNoSpace(error)) throw error;
  }
};

export type FunctionRow = {
  id: number;
  name: string;
  current: number;
  paused: number;
  created: number;
  updated: number;
  removed: number | null;
  staged: number | null;
  staged_new: number | null;
  scaling: string | null;
};
type VersionRow = { id: number; function: number; digest: string; spec: string; batching: string };

const loadFunctions = (ledger: Ledger): void => {
  const byId = new Map<number, FunctionState>();
  for (const row of ledger.db.prepare('SELECT * FROM functions').all() as FunctionRow[]) {
    const state = newFunction(row.id, row.name, row.current, row.created);
    state.paused = row.paused === 1;
    state.updatedAt = row.updated;
    state.isRemoved = row.removed !== null;
    state.staged = row.staged === null ? null : { id: row.staged, isNew: row.staged_new === 1 };
    state.scaling = row.scaling === null ? null : (JSON.parse(row.scaling) as Scaling);
    byId.set(row.id, state);
    ledger.functions.set(row.name, state);
  }
  for (const row of ledger.db.prepare('SELECT * FROM versions').all() as VersionRow[]) {
    const owner = byId.get(row.function);
    const { isolation } = JSON.parse(row.spec) as FunctionSpec;
    if (owner !== undefined)
      addVersion(ledger, row.id, row.digest, owner, isolation, JSON.parse(row.batching) as Batching);
  }
};

export const newFunction = (id: number, name: string, current: number, now: number): FunctionState => ({
  id,
  name,
  current,
  staged: null,
  scaling: null,
  paused: false,
  createdAt: now,
  updatedAt: now,
  isRemoved: false,
  waitingRows: 0,
  openBytes: 0,
  waitingCalls: 0,
  sealedRows: 0,
  liveCalls: 0,
  endedRows: Object.values(PART).map(() => 0),
});

export const addVersion = (
  ledger: Ledger,
  id: number,
  digest: string,
  owner: FunctionState,
  isolation: FunctionSpec['isolation'],
  batching: Batching,
): void => {
  ledger.versions.set(id, {
    id,
    digest,
    owner,
    batching,
    isolation,
    ready: new Set(),
    openBatches: 0,
    offers: new Map(),
    toldIdle: 0,
    toldPrefetch: 0,
    oldestHint: 0,
    unreadableAt: null,
  });
};

/** All unfinished calls count as waiting; the batches then take their rows. */
const loadCounters = (ledger: Ledger): void => {
  const sums = ledger.db
    .prepare(
      'SELECT version, count(*) AS calls, sum(rows) AS rows, sum(bytes) AS bytes FROM live GROUP BY version',
    )
    .all() as { version: number; calls: number; rows: number; bytes: number }[];
  for (const { version, calls, rows, bytes } of sums) {
    const owner = ledger.versions.get(version)?.owner;
    if (owner === undefined) continue;
    owner.liveCalls += calls;
    owner.waitingCalls += calls;
    owner.waitingRows += rows;
    owner.openBytes += bytes;
  }
  const highest = (table: string): number =>
    (ledger.db.prepare(`SELECT max(id) AS id FROM ${table}`).get() as { id: number | null }).id ?? 0;
  const kept = (name: string): number =>
    (ledger.db.prepare('SELECT value FROM meta WHERE name = ?').get(name) as { value: number } | undefined)
      ?.value ?? 1;
  ledger.nextCall = Math.max(kept('next_call'), highest('live') + 1, highest('done') + 1);
  ledger.nextBatch = Math.max(kept('next_batch'), highest('batches') + 1);
};

type OpenRow = {
  id: number;
  version: number;
  reason: number;
  mode: number;
  attempts: number;
  claims: number;
  not_before: number;
  handler_ms: number;
  slices: Uint8Array;
};

const loadBatches = (ledger: Ledger): void => {
  const rows = ledger.db
    .prepare(
      'SELECT id, version, reason, mode, attempts, claims, not_before, handler_ms, slices FROM batches WHERE settled = 0 ORDER BY id',
    )
    .all() as OpenRow[];
  for (const row of rows) {
    const stored = unpackNumbers(row.slices);
    const slices: number[] = [];
    const calls: LiveCall[] = [];
    for (let at = 0; at < stored.length; at += SLICE_WIDTH) {
      const call = ledger.call(stored[at]!);
      if (call === undefined) continue;
      slices.push(stored[at]!, stored[at + 1]!, stored[at + 2]!);
      sealUpTo(ledger, call, stored[at + 1]! + stored[at + 2]!);
      calls.push(call);
    }
    if (slices.length === 0) continue;
    const batch: Batch = {
      id: row.id,
      version: ledger.version(row.version),
      slices,
      reason: row.reason,
      mode: row.mode,
      attempts: row.attempts,
      claims: row.claims,
      notBefore: row.not_before,
      handlerMs: row.handler_ms,
      lease: null,
    };
    ledger.addBatch(batch);
    for (const call of calls) holdBatch(call, batch);
    makeReady(ledger, batch);
  }
};

/** Rows before `end` are sealed: they are in some batch. */
const sealUpTo = (ledger: Ledger, call: LiveCall, end: number): void => {
  ledger.enliven(call);
  if (end > call.sealed) takeRows(call, end - call.sealed);
};

type OutcomeRow = { id: number; started: number | null; handler_ms: number; outcomes: Uint8Array };

/** Gives unfinished calls the parts that have settled. */
const loadOutcomes = (ledger: Ledger): void => {
  const rows = ledger.db
    .prepare('SELECT id, started, handler_ms, outcomes FROM batches WHERE settled = 1 ORDER BY id')
    .all() as OutcomeRow[];
  for (const row of rows) {
    const outcomes = unpackNumbers(row.outcomes);
    const seen = new Set<number>();
    for (let at = 0; at < outcomes.length; at += OUTCOME_WIDTH) {
      const [state, id, from, count, place] = outcomes.slice(at, at + OUTCOME_WIDTH) as [
        number,
        number,
        number,
        number,
        number,
      ];
      const call = ledger.call(id);
      if (call === undefined) continue;
      sealUpTo(ledger, call, from + count);
      addPart(call, state, from, count, row.id, place);
      if (!seen.has(id)) noteRun(call, row);
      seen.add(id);
    }
  }
};

const noteRun = (call: LiveCall, { started, handler_ms }: OutcomeRow): void => {
  if (started === null) return;
  call.startedAt = call.startedAt === null ? started : Math.min(call.startedAt, started);
  call.handlerMs += handler_ms;
};
