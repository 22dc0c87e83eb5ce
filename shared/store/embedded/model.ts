/** What the store keeps in memory: calls in flight, batches that are not settled, versions with their slots. */
import type { Batching, Isolation } from '../../domain/function.ts';
import type { Scaling } from '../../domain/scaling.ts';
import { PART, SLICE_WIDTH } from '../stored-words.ts';
import type { SegmentRef } from './segments.ts';

export { MODES, PART, PART_STATES, PART_WIDTH, REASONS, SLICE_WIDTH, STATUSES } from '../stored-words.ts';
export const STATUS = { pending: 0, running: 1, completed: 2, failed: 3, cancelled: 4, expired: 5 } as const;
/** Numbers of an outcome: state, call, first row, rows, place. */
export const OUTCOME_WIDTH = 5;

export type StoredPayload = string | Uint8Array | (SegmentRef & { readonly kind: 0 | 1 });

export const isInSegment = (
  payload: StoredPayload | undefined,
): payload is SegmentRef & { readonly kind: 0 | 1 } => typeof payload === 'object' && 'segment' in payload;

/** What is fixed when a call is admitted, but for its version, which a repin changes. */
export type CallFacts = {
  readonly id: number;
  version: VersionState;
  readonly keyId: number;
  readonly rows: number;
  readonly bytes: number;
  readonly arrivedAt: number;
  readonly deadlineAt: number | null;
  /** JSON of lane, priority, schema key, metadata and traceparent, where they are not the defaults. */
  readonly extra: string | null;
  /** undefined: read it from the table. */
  payload: StoredPayload | undefined;
};

/** A call that is not finished. Waiting ones are only cached; those with sealed rows stay until they finish. */
export type LiveCall = CallFacts & {
  /** Rows before this one are sealed. */
  sealed: number;
  /** Rows with an outcome. */
  settled: number;
  failed: number;
  expired: number;
  leasedAt: number | null;
  startedAt: number | null;
  handlerMs: number;
  /** Parts in the order of their settling; PART_WIDTH numbers each. */
  parts: number[];
  /** Unsettled batches with rows of this call: mostly one, as many as wait out a back-off (a Set for each call would cost more than the call). */
  batches: Batch | Set<Batch> | null;
};

/** A call of which nothing is sealed. */
export const unsealed = (facts: CallFacts): LiveCall => ({
  ...facts,
  sealed: 0,
  settled: 0,
  failed: 0,
  expired: 0,
  leasedAt: null,
  startedAt: null,
  handlerMs: 0,
  parts: [],
  batches: null,
});

export const holdBatch = (call: LiveCall, batch: Batch): void => {
  const { batches } = call;
  if (batches instanceof Set) batches.add(batch);
  else if (batches !== null && batches !== batch) call.batches = new Set([batches, batch]);
  else call.batches = batch;
};

export const letGoOfBatch = (call: LiveCall, batch: Batch): void => {
  if (call.batches instanceof Set) call.batches.delete(batch);
  else if (call.batches === batch) call.batches = null;
};

/** As they are now: they may be let go of meanwhile. */
export const batchesOf = ({ batches }: LiveCall): readonly Batch[] => {
  if (batches === null) return [];
  return batches instanceof Set ? [...batches] : [batches];
};

export type Lease = {
  readonly token: string;
  readonly workerId: string;
  until: number;
  readonly slices: readonly number[];
};

/** A batch that is not settled. */
export type Batch = {
  readonly id: number;
  readonly version: VersionState;
  /** SLICE_WIDTH numbers each. */
  slices: readonly number[];
  readonly reason: number;
  mode: number;
  attempts: number;
  claims: number;
  notBefore: number;
  handlerMs: number;
  lease: Lease | null;
};

export type OfferState = { idle: number; prefetch: number; until: number };

export type VersionState = {
  readonly id: number;
  readonly digest: string;
  readonly owner: FunctionState;
  batching: Batching;
  readonly isolation: Isolation;
  /** Sealed batches that may be leased now, in the order of their sealing. */
  readonly ready: Set<Batch>;
  /** Batches that are not settled. */
  openBatches: number;
  readonly offers: Map<string, OfferState>;
  /** What watchers were told last. */
  toldIdle: number;
  toldPrefetch: number;
  /** No call of this version below this id waits. */
  oldestHint: number;
  /** Found unused: nothing of it is readable from then on (retiring.ts). */
  unreadableAt: number | null;
};

export type FunctionState = {
  readonly id: number;
  readonly name: string;
  current: number;
  /** A version that waits to become current; `isNew`: it goes with its staging, since it was never current. */
  staged: { readonly id: number; readonly isNew: boolean } | null;
  scaling: Scaling | null;
  paused: boolean;
  createdAt: number;
  updatedAt: number;
  isRemoved: boolean;
  waitingRows: number;
  /** Payload bytes of rows without an outcome, waiting or sealed. */
  openBytes: number;
  waitingCalls: number;
  sealedRows: number;
  /** Calls that are not finished. */
  liveCalls: number;
  /** Rows that ended since the server's start, by outcome (PART). */
  readonly endedRows: number[];
};

/** Whether a batch is open, or settled with or without calls that were unfinished then. Stored. */
export const SETTLED = { open: 0, partly: 1, wholly: 2 } as const;

export const rowsOf = (slices: readonly number[]): number => {
  let rows = 0;
  for (let i = 2; i < slices.length; i += SLICE_WIDTH) rows += slices[i]!;
  return rows;
};

/** Gives sealed rows of a call their outcome: PART_WIDTH numbers, and the counters of the call and its function. */
export const addPart = (
  call: LiveCall,
  state: number,
  from: number,
  count: number,
  record: number,
  place: number,
): void => {
  const { owner } = call.version;
  call.parts.push(state, from, count, record, place);
  call.settled += count;
  owner.sealedRows -= count;
  owner.openBytes -= (call.bytes * count) / call.rows;
  owner.endedRows[state]! += count;
  if (state === PART.failed) call.failed += count;
  if (state === PART.expired) call.expired += count;
};
