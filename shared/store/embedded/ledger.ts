/**
 * The store's state: the tables, and in memory what is in flight. Verbs are functions over it; each checks
 * first and writes after, so that a refusal leaves nothing behind. Nothing is kept for a call that only waits but an
 * entry of a bounded cache, so that a million waiting calls cost disk, not memory.
 */
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import type { ReplicaReport } from '../../domain/function.ts';
import { LeaseWatch } from '../../domain/lease-watch.ts';
import { BugError, SluiceError } from '../../errors/sluice-error.ts';
import { IdMap } from '../../runtime/id-map.ts';
import { BlobCache } from '../blob-cache.ts';
import type { LogLine } from '../ports/registry.ts';
import type { EmbeddedOptions } from '../ports/server.ts';
import { Disk } from './disk.ts';
import { DueHeap } from './due-heap.ts';
import {
  type Batch,
  type FunctionState,
  isInSegment,
  type Lease,
  type LiveCall,
  unsealed,
  type VersionState,
} from './model.ts';
import { Outbox } from './outbox.ts';
import type { Segments } from './segments.ts';
import { prepareStatements, type Statements } from './statements.ts';

/** Waiting calls cached: some ticks of the fastest admission, so that seal and lease seldom read the table. */
const RECENT_CALLS_MAX = 20_000;
const RECENT_BYTES_MAX = 32 * 2 ** 20;
const BLOB_CACHE_BYTES = 128 * 2 ** 20;

export type LiveRow = {
  id: number;
  version: number;
  key: number;
  rows: number;
  bytes: number;
  arrived: number;
  deadline: number | null;
  extra: string | null;
  segment: number | null;
  at: number | null;
  length: number | null;
  kind: 0 | 1 | null;
};

export class Ledger {
  readonly db: DatabaseSync;
  readonly sql: Statements;
  readonly segments: Segments;
  readonly options: EmbeddedOptions;
  readonly blobs = new BlobCache(BLOB_CACHE_BYTES);
  readonly outbox = new Outbox();
  readonly disk = new Disk(this);
  readonly counters: Record<string, number> = {
    commits: 0,
    commit_ms_total: 0,
    verbs: 0,
    settle_conflicts: 0,
    late_rows: 0,
    leases_lost: 0,
    admissions_refused: 0,
    checkpoints: 0,
    checkpoint_ms_total: 0,
    segments_recycled: 0,
    calls_swept: 0,
    recoveries: 0,
  };
  /** Unfinished calls with sealed rows. */
  readonly live = new IdMap<LiveCall>();
  readonly batches = new IdMap<Batch>();
  readonly versions = new Map<number, VersionState>();
  readonly functions = new Map<string, FunctionState>();
  /** By version and worker. */
  readonly reports = new Map<number, Map<string, ReplicaReport>>();
  readonly logs = new Map<string, LogLine[]>();
  /** Of batches by their ids: those that are settled long before would be held for as long as a lease. */
  leaseEnds = new DueHeap<number>();
  /** Holders are in this process. */
  readonly leaseWatch = new LeaseWatch(0);
  delayed = new DueHeap<number>();
  nextCall = 1;
  nextBatch = 1;
  /** Missing ids above this one are gone, others unknown; see sweeping.ts. */
  goneFloor = 0;
  /** Leases as they were before this commit's verbs, of the batches whose lease these changed. */
  readonly leasesBefore = new Map<number, Lease | null>();
  /** Set where the disk or its limit refuses admissions; cleared by the next measure. */
  isFull = false;
  /** A verb wrote more than most do: the log is looked at after its commit. */
  isLogLong = false;
  /** A group runs again after it found no room: admissions are refused. */
  isRefusing = false;
  readonly #recent = new IdMap<LiveCall>();
  #recentBytes = 0;
  readonly #prepared = new Map<string, StatementSync>();

  constructor(db: DatabaseSync, segments: Segments, options: EmbeddedOptions) {
    this.db = db;
    this.sql = prepareStatements(db);
    this.segments = segments;
    this.options = options;
  }

  /** A statement of a rare verb, prepared at its first use. */
  prepare(text: string): StatementSync {
    let statement = this.#prepared.get(text);
    if (statement === undefined) {
      statement = this.db.prepare(text);
      this.#prepared.set(text, statement);
    }
    return statement;
  }

  count(name: string, by = 1): void {
    this.counters[name] = (this.counters[name] ?? 0) + by;
  }

  version(id: number): VersionState {
    const version = this.versions.get(id);
    if (version === undefined)
      throw new SluiceError('function_not_found', `There is no function version ${id}.`);
    return version;
  }

  /** An unfinished call, from memory or from its row. */
  call(id: number): LiveCall | undefined {
    return this.live.get(id) ?? this.#recent.get(id) ?? this.#read(id);
  }

  addBatch(batch: Batch): void {
    this.batches.set(batch.id, batch);
    batch.version.openBatches += 1;
  }

  /** All changes of leases, so that a commit that fails gives back those that its verbs ended. */
  setLease(batch: Batch, lease: Lease | null): void {
    if (!this.leasesBefore.has(batch.id)) this.leasesBefore.set(batch.id, batch.lease);
    batch.lease = lease;
  }

  /** Keeps a waiting call for its seal; the oldest go when there are too many. */
  remember(call: LiveCall): void {
    this.#recent.set(call.id, call);
    this.#recentBytes += call.bytes;
    while (this.#recent.size > RECENT_CALLS_MAX || this.#recentBytes > RECENT_BYTES_MAX) {
      const oldest = this.#recent.values().next().value;
      if (oldest === undefined) return;
      this.#forget(oldest);
    }
  }

  /** A call that gets its first sealed rows. */
  enliven(call: LiveCall): void {
    if (this.#recent.has(call.id)) this.#forget(call);
    this.live.set(call.id, call);
  }

  /** A call that has finished. */
  drop(call: LiveCall): void {
    if (!this.live.delete(call.id) && this.#recent.has(call.id)) this.#forget(call);
    if (isInSegment(call.payload)) {
      this.segments.refer(call.payload.segment, -1);
      this.blobs.delete(-call.id);
    }
  }

  /** Empties what is in memory, before the tables are read again. */
  clear(): void {
    this.live.clear();
    this.batches.clear();
    this.versions.clear();
    this.functions.clear();
    this.#recent.clear();
    this.#recentBytes = 0;
    this.leaseEnds = new DueHeap();
    this.delayed = new DueHeap();
    // Ids that were undone are given again, to other bytes.
    this.blobs.clear();
    this.segments.forgetReferences();
  }

  fromRow(row: LiveRow): LiveCall {
    const version = this.versions.get(row.version);
    if (version === undefined)
      throw new BugError(`call ${row.id} names version ${row.version}, which is not there`);
    return unsealed({
      id: row.id,
      version,
      keyId: row.key,
      rows: row.rows,
      bytes: row.bytes,
      arrivedAt: row.arrived,
      deadlineAt: row.deadline,
      extra: row.extra,
      payload:
        row.segment === null
          ? undefined
          : { segment: row.segment, at: row.at!, length: row.length!, kind: row.kind! },
    });
  }

  #read(id: number): LiveCall | undefined {
    const row = this.sql.live.get(id) as LiveRow | undefined;
    if (row === undefined) return undefined;
    const call = this.fromRow(row);
    this.remember(call);
    return call;
  }

  #forget(call: LiveCall): void {
    this.#recent.delete(call.id);
    this.#recentBytes -= call.bytes;
  }
}
