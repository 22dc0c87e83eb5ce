/** The verbs `lease`, `extend` and `release`. Leases live in memory: our own restart ends them at no cost. */
import { randomBytes } from 'node:crypto';
import { SluiceError } from '../../errors/sluice-error.ts';
import type { ExtendRequest, LeaseRef, LeaseRequest } from '../ports/queue.ts';
import { conclude } from './concluding.ts';
import { dropBatch } from './ending.ts';
import type { Ledger } from './ledger.ts';
import type { LeasedMessage } from './messages.ts';
import { type Batch, isInSegment, type LiveCall, PART, SLICE_WIDTH } from './model.ts';
import { readPayload } from './payloads.ts';
import { makeReady, wakeDelayed } from './sealing.ts';
import { takeSlot } from './slots.ts';

/** Tokens of another life of this process never match. */
const tokenPrefix = randomBytes(9).toString('base64url');
let tokens = 0;

export const lease = (ledger: Ledger, request: LeaseRequest): LeasedMessage[] => {
  const { now, workerId, versionId, leaseMs, max } = request;
  const version = ledger.version(versionId);
  wakeDelayed(ledger, now, Number.POSITIVE_INFINITY);
  const leased: LeasedMessage[] = [];
  for (const batch of version.ready) {
    if (leased.length >= max) break;
    version.ready.delete(batch);
    ledger.outbox.slots.add(version);
    if (!shed(ledger, batch, now, damageOf)) continue;
    tokens += 1;
    const token = `${tokenPrefix}.${tokens}`;
    const until = now + leaseMs;
    ledger.setLease(batch, { token, workerId, until, slices: batch.slices });
    ledger.leaseEnds.push(until, batch.id);
    takeSlot(ledger, version, workerId);
    leased.push(describe(ledger, batch, token, until, now));
  }
  return leased;
};

/**
 * A lease that was answered before its commit failed, done again: the worker keeps its token where the batch came
 * out the same. Where it did not, its settle is stale and the rows run again.
 */
export const leaseAgain = (
  ledger: Ledger,
  { now, workerId }: LeaseRequest,
  leased: LeasedMessage[],
): void => {
  for (const { batchId, token, leaseUntil, slices } of leased) {
    const batch = ledger.batches.get(batchId);
    if (batch === undefined || !batch.version.ready.has(batch)) continue;
    if (!shed(ledger, batch, now, damageOf) || batch.slices.join() !== slices.join()) continue;
    batch.version.ready.delete(batch);
    ledger.setLease(batch, { token, workerId, until: leaseUntil, slices: batch.slices });
    ledger.leaseEnds.push(leaseUntil, batchId);
  }
};

/** Why the call's payload cannot be read, null when it can. Inline payloads are SQLite's to check. */
const damageOf = (ledger: Ledger, call: LiveCall): string | null => {
  if (!isInSegment(call.payload)) return null;
  try {
    readPayload(ledger, call);
    return null;
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    return JSON.stringify({ code: error.code, message: error.message });
  }
};

/**
 * Takes out of a batch what cannot run any more: rows of calls that are over, rows past their deadline, and (where
 * asked) rows whose payload is damaged, which fail so that no worker tries them for ever. False: nothing is left.
 */
export const shed = (
  ledger: Ledger,
  batch: Batch,
  now: number,
  failureOf: (ledger: Ledger, call: LiveCall) => string | null = () => null,
): boolean => {
  const kept: number[] = [];
  const outcomes: number[] = [];
  const errors: string[] = [];
  for (let at = 0; at < batch.slices.length; at += SLICE_WIDTH) {
    const [id, from, count] = [batch.slices[at]!, batch.slices[at + 1]!, batch.slices[at + 2]!];
    const call = ledger.live.get(id);
    if (call === undefined) continue;
    const isPast = call.deadlineAt !== null && call.deadlineAt <= now;
    const failure = isPast ? null : failureOf(ledger, call);
    if (isPast) outcomes.push(PART.expired, id, from, count, 0);
    else if (failure !== null) outcomes.push(PART.failed, id, from, count, errors.push(failure) - 1);
    else kept.push(id, from, count);
  }
  if (kept.length === batch.slices.length) return true;
  if (outcomes.length === 0 && kept.length === 0) {
    dropBatch(ledger, batch);
    return false;
  }
  const { attempts, claims, mode, notBefore } = batch;
  const rest = kept.length === 0 ? [] : [{ slices: kept, attempts, claims, mode, notBefore }];
  conclude(ledger, batch, { now, outcomes, errors, continuations: rest, isSilent: true });
  return kept.length > 0;
};

const describe = (ledger: Ledger, batch: Batch, token: string, until: number, now: number): LeasedMessage => {
  const calls: number[] = [];
  const payloads: (string | Uint8Array)[] = [];
  const extras: (string | null)[] = [];
  let last: LiveCall | undefined;
  const seen = batch.slices.length > SLICE_WIDTH * 2 ? new Set<number>() : null;
  for (let at = 0; at < batch.slices.length; at += SLICE_WIDTH) {
    const id = batch.slices[at]!;
    if (last?.id === id || seen?.has(id)) continue;
    const call = ledger.live.get(id)!;
    last = call;
    seen?.add(id);
    call.leasedAt ??= now;
    calls.push(id, call.rows, call.arrivedAt, call.deadlineAt ?? Number.NaN);
    payloads.push(readPayload(ledger, call));
    extras.push(call.extra);
  }
  return {
    batchId: batch.id,
    versionId: batch.version.id,
    token,
    attempts: batch.attempts,
    claims: batch.claims,
    mode: batch.mode,
    reason: batch.reason,
    leaseUntil: until,
    slices: batch.slices,
    calls,
    payloads,
    extras,
  };
};

export const heldBy = (ledger: Ledger, { batchId, token }: LeaseRef): Batch | undefined => {
  const batch = ledger.batches.get(batchId);
  return batch?.lease?.token === token ? batch : undefined;
};

export const extend = (ledger: Ledger, { now, leaseMs, leases }: ExtendRequest): { lost: number[] } => {
  const lost: number[] = [];
  for (const ref of leases) {
    const batch = heldBy(ledger, ref);
    if (batch === undefined) lost.push(ref.batchId);
    else batch.lease!.until = now + leaseMs;
  }
  return { lost };
};

export const release = (ledger: Ledger, ref: LeaseRef & { readonly now: number }): boolean => {
  const batch = heldBy(ledger, ref);
  if (batch === undefined) return false;
  ledger.setLease(batch, null);
  if (shed(ledger, batch, ref.now)) makeReady(ledger, batch, ref.now);
  return true;
};
