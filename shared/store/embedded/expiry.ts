/** The verb `expired` (offers, back-offs, lost leases, deadlines) and the verb `cancel`. */
import { afterLostLease, type Decision } from '../../domain/retry.ts';
import type { CancelAnswer, ExpiredAnswer, ExpiredQuery } from '../ports/queue.ts';
import { conclude } from './concluding.ts';
import { finish } from './ending.ts';
import { shed } from './leasing.ts';
import type { Ledger } from './ledger.ts';
import { addPart, type Batch, batchesOf, type LiveCall, MODES, PART, SLICE_WIDTH } from './model.ts';
import { packNumbers } from './packing.ts';
import { makeReady, takeRows, wakeDelayed } from './sealing.ts';
import { endOffers } from './slots.ts';

export const expired = (ledger: Ledger, query: ExpiredQuery): ExpiredAnswer => {
  const { now, claimsMax, limit, heartbeatMs } = query;
  const offersEnd = endOffers(ledger, now);
  const woken = wakeDelayed(ledger, now, limit);
  const until = ledger.leaseWatch.mayEndUntil(now, heartbeatMs);
  ledger.leaseWatch.looked(now);
  const leases = loseLeases(ledger, { now, claimsMax, limit, until });
  const calls = expireCalls(ledger, now, limit);
  const next = [offersEnd, nextLeaseEnd(ledger), ledger.delayed.peek()?.at ?? null, nextDeadline(ledger)];
  const times = next.filter((at) => at !== null);
  return {
    leases,
    calls,
    more: woken === limit || leases === limit || calls === limit,
    nextAt: times.length === 0 ? null : Math.min(...times),
  };
};

/** Loses the leases whose end is not after `until`. */
const loseLeases = (ledger: Ledger, query: ExpiredQuery & { readonly until: number }): number => {
  const { now, claimsMax, limit, until } = query;
  let lost = 0;
  for (let at = nextLeaseEnd(ledger); at !== null && at <= until && lost < limit; at = nextLeaseEnd(ledger)) {
    const batch = ledger.batches.get(ledger.leaseEnds.peek()!.item)!;
    ledger.leaseEnds.pop();
    loseLease(ledger, batch, now, claimsMax);
    lost += 1;
  }
  ledger.count('leases_lost', lost);
  return lost;
};

/** When the next lease that is still held ends; entries of others are thrown away on the way. */
const nextLeaseEnd = (ledger: Ledger): number | null => {
  for (let top = ledger.leaseEnds.peek(); top !== undefined; top = ledger.leaseEnds.peek()) {
    const lease = ledger.batches.get(top.item)?.lease ?? null;
    if (lease?.until === top.at) return top.at;
    ledger.leaseEnds.pop();
    // Also one that ends earlier than was said: the clock may have been set back since.
    if (lease !== null) ledger.leaseEnds.push(lease.until, top.item);
  }
  return null;
};

const loseLease = (ledger: Ledger, batch: Batch, now: number, claimsMax: number): void => {
  ledger.setLease(batch, null);
  if (!shed(ledger, batch, now)) return;
  const slices = [];
  for (let at = 0; at < batch.slices.length; at += SLICE_WIDTH) {
    slices.push({ callId: batch.slices[at]!, from: batch.slices[at + 1]!, count: batch.slices[at + 2]! });
  }
  const { attempts, claims } = batch;
  const run = { slices, attempts, claims, mode: MODES[batch.mode]! };
  const decision = afterLostLease(run, claimsMax, batch.version.isolation);
  conclude(ledger, batch, { now, ...packDecision(decision) });
};

const packDecision = ({ outcomes, continuations }: Decision) => {
  const errors = [
    ...new Set(outcomes.flatMap((one) => (one.state === 'failed' ? [JSON.stringify(one.error)] : []))),
  ];
  return {
    errors,
    outcomes: outcomes.flatMap((one) => [
      PART[one.state],
      one.callId,
      one.from,
      one.count,
      one.state === 'failed' ? errors.indexOf(JSON.stringify(one.error)) : 0,
    ]),
    continuations: continuations.map((part) => ({
      ...part,
      mode: MODES.indexOf(part.mode),
      slices: part.slices.flatMap((slice) => [slice.callId, slice.from, slice.count]),
    })),
  };
};

const expireCalls = (ledger: Ledger, now: number, limit: number): number => {
  const due = ledger.prepare('SELECT id FROM live WHERE due <= ? ORDER BY due LIMIT ?').all(now, limit) as {
    id: number;
  }[];
  for (const { id } of due) {
    const call = ledger.call(id);
    if (call !== undefined) expireCall(ledger, call, now);
  }
  return due.length;
};

const nextDeadline = (ledger: Ledger): number | null => {
  const row = ledger.prepare('SELECT min(due) AS due FROM live WHERE due IS NOT NULL').get() as {
    due: number | null;
  };
  return row.due;
};

/** Rows that a worker has finish; all others expire now. */
const expireCall = (ledger: Ledger, call: LiveCall, now: number): void => {
  ledger.outbox.ended.push(call.id);
  const held = batchesOf(call).filter((batch) => batch.lease !== null);
  if (held.length === 0) {
    finish(ledger, call, now, 'expired');
    return;
  }
  ledger.sql.clearDue.run(call.id);
  for (const batch of batchesOf(call)) {
    if (batch.lease !== null) continue;
    const wasReady = batch.version.ready.delete(batch);
    if (shed(ledger, batch, now) && wasReady) makeReady(ledger, batch, now);
  }
  const from = call.sealed;
  const count = call.rows - from;
  if (count === 0) return;
  // The tail never was in a batch: it gets a record of its own, so that a restart knows of it.
  const id = ledger.nextBatch;
  ledger.nextBatch += 1;
  takeRows(call, count);
  ledger.sql.addOutcomes.run(
    id,
    call.version.id,
    1,
    0,
    0,
    0,
    0,
    null,
    0,
    packNumbers([PART.expired, call.id, from, count, 0]),
    null,
    null,
    null,
    null,
    null,
  );
  addPart(call, PART.expired, from, count, id, 0);
  ledger.outbox.touch(call, null);
};

export const cancelCall = (ledger: Ledger, now: number, callId: number): CancelAnswer => {
  const call = ledger.call(callId);
  if (call === undefined) return { calls: 0, rows: 0 };
  const rows = call.rows - call.settled;
  ledger.outbox.ended.push(callId);
  finish(ledger, call, now, 'cancelled');
  return { calls: 1, rows };
};
