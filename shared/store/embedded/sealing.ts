/** The verb `seal`, and how a batch becomes ready. */
import type { Ledger } from './ledger.ts';
import type { SealMessage } from './messages.ts';
import {
  type Batch,
  holdBatch,
  isInSegment,
  type LiveCall,
  SLICE_WIDTH,
  type VersionState,
} from './model.ts';
import { packNumbers } from './packing.ts';
import { freeSlots } from './slots.ts';

export type SealedMessage = {
  readonly batchId: number | null;
  readonly refused: readonly number[];
  readonly idle: number;
  readonly prefetch: number;
};

export const seal = (ledger: Ledger, request: SealMessage): SealedMessage => {
  const { now, versionId, slices, reason } = request;
  const version = ledger.version(versionId);
  const accepted: number[] = [];
  const refused: number[] = [];
  const calls: LiveCall[] = [];
  for (let at = 0; at < slices.length; at += SLICE_WIDTH) {
    const [id, from, count] = [slices[at]!, slices[at + 1]!, slices[at + 2]!];
    const call = ledger.call(id);
    if (call === undefined || !isSealable(call, version, from, count, now)) {
      refused.push(id, from, count);
      continue;
    }
    accepted.push(id, from, count);
    calls.push(call);
    takeRows(call, count);
  }
  if (accepted.length === 0) return { batchId: null, refused, ...freeSlots(version) };
  const batch = addBatch(ledger, version, accepted, {
    reason,
    mode: 0,
    attempts: 0,
    claims: 0,
    notBefore: 0,
  });
  for (const call of calls) {
    ledger.enliven(call);
    holdBatch(call, batch);
  }
  makeReady(ledger, batch);
  // Every seal tells its slots, so that a buffer which counts its seals in flight needs no other source.
  version.toldIdle = -1;
  return { batchId: batch.id, refused, ...freeSlots(version) };
};

/**
 * Only the head of the waiting tail may be sealed, nothing that is past its deadline, and nothing of a function that is paused,
 * which its buffer hears a moment later.
 */
const isSealable = (
  call: LiveCall,
  version: VersionState,
  from: number,
  count: number,
  now: number,
): boolean =>
  !version.owner.paused &&
  call.version === version &&
  call.sealed === from &&
  count > 0 &&
  from + count <= call.rows &&
  (call.deadlineAt === null || call.deadlineAt > now);

/** Moves rows from waiting to sealed, in the call and in its function's counters. */
export const takeRows = (call: LiveCall, count: number): void => {
  const { owner } = call.version;
  call.sealed += count;
  owner.waitingRows -= count;
  owner.sealedRows += count;
  if (call.sealed === call.rows) owner.waitingCalls -= 1;
};

export type BatchFacts = {
  readonly reason: number;
  readonly mode: number;
  readonly attempts: number;
  readonly claims: number;
  readonly notBefore: number;
};

/** A new open batch, in its table and in memory; not ready yet. */
export const addBatch = (
  ledger: Ledger,
  version: VersionState,
  slices: readonly number[],
  { reason, mode, attempts, claims, notBefore }: BatchFacts,
): Batch => {
  const id = ledger.nextBatch;
  ledger.nextBatch += 1;
  ledger.sql.addBatch.run(id, version.id, reason, mode, attempts, claims, notBefore, packNumbers(slices));
  const batch: Batch = {
    id,
    version,
    slices,
    reason,
    mode,
    attempts,
    claims,
    notBefore,
    handlerMs: 0,
    lease: null,
  };
  ledger.addBatch(batch);
  return batch;
};

/** Puts an open batch where workers find it: at once, or when its back-off is over. */
export const makeReady = (ledger: Ledger, batch: Batch, now = 0): void => {
  if (batch.notBefore > now) {
    ledger.delayed.push(batch.notBefore, batch.id);
    forgetPayloads(ledger, batch);
    return;
  }
  batch.version.ready.add(batch);
  ledger.outbox.slots.add(batch.version);
  ledger.outbox.ready.add(batch.version.id);
};

/** A back-off may last hours: what is in the table is read from there when it is over. */
const forgetPayloads = (ledger: Ledger, { slices }: Batch): void => {
  for (let at = 0; at < slices.length; at += SLICE_WIDTH) {
    const call = ledger.live.get(slices[at]!);
    if (call !== undefined && !isInSegment(call.payload)) call.payload = undefined;
  }
};

/** Makes the batches ready whose back-off is over; at most `limit`, and says how many. */
export const wakeDelayed = (ledger: Ledger, now: number, limit: number): number => {
  let woken = 0;
  for (let top = ledger.delayed.peek(); top !== undefined && woken < limit; top = ledger.delayed.peek()) {
    if (top.at > now) break;
    ledger.delayed.pop();
    const batch = ledger.batches.get(top.item);
    if (batch === undefined || batch.lease !== null || batch.notBefore !== top.at) continue;
    makeReady(ledger, batch, now);
    woken += 1;
  }
  return woken;
};
