/** How calls end: every row has an outcome, or what is left is cancelled or expired. A call that ended moves to `done`. */
import type { Ledger } from './ledger.ts';
import {
  type Batch,
  batchesOf,
  type LiveCall,
  letGoOfBatch,
  PART,
  PART_WIDTH,
  SLICE_WIDTH,
  STATUS,
} from './model.ts';
import { packNumbers } from './packing.ts';

/** Parts in row order without gaps; rows without an outcome become `fill`. Runs of one output are joined. */
export const joinParts = (call: LiveCall, fill: number): number[] => {
  const order: number[] = [];
  for (let at = 0; at < call.parts.length; at += PART_WIDTH) order.push(at);
  order.sort((a, b) => call.parts[a + 1]! - call.parts[b + 1]!);
  const joined: number[] = [];
  let next = 0;
  for (const at of order) {
    const from = call.parts[at + 1]!;
    if (from > next) joined.push(fill, next, from - next, 0, 0);
    appendPart(joined, call.parts, at);
    next = from + call.parts[at + 2]!;
  }
  if (next < call.rows) joined.push(fill, next, call.rows - next, 0, 0);
  return joined;
};

const appendPart = (joined: number[], parts: readonly number[], at: number): void => {
  const [state, from, count, batch, place] = parts.slice(at, at + PART_WIDTH) as [
    number,
    number,
    number,
    number,
    number,
  ];
  const last = joined.length - PART_WIDTH;
  const isContinued =
    last >= 0 &&
    joined[last] === state &&
    joined[last + 3] === batch &&
    (state === PART.ok ? joined[last + 4]! + joined[last + 2]! === place : joined[last + 4] === place);
  if (isContinued) joined[last + 2]! += count;
  else joined.push(state, from, count, batch, place);
};

/** Ends a call: rows without an outcome are cancelled or expired. `isWritten` is false for a call that has no row yet. */
export const finish = (
  ledger: Ledger,
  call: LiveCall,
  now: number,
  rest: 'cancelled' | 'expired',
  isWritten = true,
): void => {
  const open = call.rows - call.settled;
  const cancelled = rest === 'cancelled' ? open : 0;
  const expired = call.expired + (rest === 'expired' ? open : 0);
  const status = statusOfEnd(cancelled, expired, call.failed);
  const parts = call.parts.length === PART_WIDTH && open === 0 ? call.parts : joinParts(call, PART[rest]);
  if (isWritten) ledger.sql.dropLive.run(call.id);
  call.version.owner.endedRows[PART[rest]]! += open;
  writeDone(ledger, call, now, { status, cancelled, expired, parts });
  countDown(call);
  ledger.drop(call);
  ledger.outbox.touch(call, { status, failed: call.failed, cancelled, expired, parts });
  for (const batch of batchesOf(call)) dropIfEmpty(ledger, batch);
};

const statusOfEnd = (cancelled: number, expired: number, failed: number): number => {
  if (cancelled > 0) return STATUS.cancelled;
  if (expired > 0) return STATUS.expired;
  return failed > 0 ? STATUS.failed : STATUS.completed;
};

type End = { status: number; cancelled: number; expired: number; parts: readonly number[] };

const writeDone = (ledger: Ledger, call: LiveCall, now: number, end: End): void => {
  const { parts } = end;
  const startedAt = call.startedAt ?? call.leasedAt;
  const isSimple = parts.length === PART_WIDTH && parts[0] === PART.ok;
  ledger.sql.addDone.run(
    call.id,
    call.version.id,
    call.keyId,
    call.rows,
    call.bytes,
    call.arrivedAt,
    startedAt,
    // A cancel's time may be of another thread, a millisecond before.
    Math.max(now, startedAt ?? 0),
    call.deadlineAt,
    now + ledger.options.retentionMs,
    end.status,
    call.failed,
    end.cancelled,
    end.expired,
    call.handlerMs,
    call.extra,
    isSimple ? parts[3]! : null,
    isSimple ? parts[4]! : null,
    isSimple ? null : packNumbers(parts),
  );
};

const countDown = (call: LiveCall): void => {
  const { owner } = call.version;
  const waiting = call.rows - call.sealed;
  owner.liveCalls -= 1;
  owner.sealedRows -= call.sealed - call.settled;
  owner.openBytes -= call.rows === 0 ? call.bytes : (call.bytes * (call.rows - call.settled)) / call.rows;
  if (waiting === 0 && call.rows > 0) return;
  owner.waitingCalls -= 1;
  owner.waitingRows -= waiting;
};

/** Whether some call of the batch is unfinished. */
export const hasLiveCall = (ledger: Ledger, slices: readonly number[]): boolean => {
  for (let at = 0; at < slices.length; at += SLICE_WIDTH) if (ledger.live.has(slices[at]!)) return true;
  return false;
};

/** A batch whose calls have all ended goes, unless a worker holds it: then its settle takes it away. */
const dropIfEmpty = (ledger: Ledger, batch: Batch): void => {
  if (batch.lease !== null || !ledger.batches.has(batch.id) || hasLiveCall(ledger, batch.slices)) return;
  dropBatch(ledger, batch);
};

export const dropBatch = (ledger: Ledger, batch: Batch): void => {
  ledger.sql.dropBatch.run(batch.id);
  forgetBatch(ledger, batch);
};

/** The calls of a batch that are not finished, once for each of their slices. */
export const eachCall = (
  ledger: Ledger,
  batch: Batch,
  change: (call: LiveCall, batch: Batch) => void,
): void => {
  for (let at = 0; at < batch.slices.length; at += SLICE_WIDTH) {
    const call = ledger.live.get(batch.slices[at]!);
    if (call !== undefined) change(call, batch);
  }
};

/** Takes a batch that is no longer open out of memory. */
export const forgetBatch = (ledger: Ledger, batch: Batch): void => {
  if (ledger.batches.delete(batch.id)) batch.version.openBatches -= 1;
  ledger.setLease(batch, null);
  if (batch.version.ready.delete(batch)) ledger.outbox.slots.add(batch.version);
  eachCall(ledger, batch, letGoOfBatch);
};
