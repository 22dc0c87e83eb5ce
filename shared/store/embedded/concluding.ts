/**
 * What a batch becomes: outcomes of its rows, and continuations that run again. Settling, lost leases and passed
 * deadlines all end here. A batch's final record holds the outcomes; a part that settles while the rest keeps the
 * batch's id gets a record of its own, so that an id never means two outputs.
 */
import { dropBatch, eachCall, finish, forgetBatch } from './ending.ts';
import type { Ledger } from './ledger.ts';
import { type ContinuationMessage, INLINE_BYTES_MAX } from './messages.ts';
import {
  addPart,
  type Batch,
  holdBatch,
  type LiveCall,
  letGoOfBatch,
  OUTCOME_WIDTH,
  PART,
  SETTLED,
  SLICE_WIDTH,
} from './model.ts';
import { packNumbers } from './packing.ts';
import { addBatch, makeReady } from './sealing.ts';
import type { SegmentRef } from './segments.ts';

export type Conclusion = {
  readonly now: number;
  /** OUTCOME_WIDTH numbers each. */
  readonly outcomes: readonly number[];
  /** JSON texts. */
  readonly errors?: readonly string[];
  readonly output?: Uint8Array | null;
  readonly continuations: readonly ContinuationMessage[];
  readonly startedAt?: number | null;
  readonly handlerMs?: number;
  /** The batch stays with the caller: it does not become ready. */
  readonly isSilent?: boolean;
};

type Place = { readonly ref: SegmentRef | null; readonly inline: Uint8Array | null };

export const conclude = (ledger: Ledger, batch: Batch, end: Conclusion): void => {
  // Appending may find the disk full, so it comes before anything changes.
  const place = placeOutput(ledger, end);
  const applied = liveOutcomes(ledger, end.outcomes);
  const rest = stillRunning(ledger, end, applied);
  const keepsId = end.continuations.length === 1 && rest.length === 1;
  ledger.setLease(batch, null);
  noteRun(ledger, batch, end);
  const recordId = keepsId ? ledger.nextBatch : batch.id;
  if (keepsId && applied.length > 0) ledger.nextBatch += 1;
  const finished: LiveCall[] = [];
  const settled = apply(ledger, applied, recordId, finished) ? SETTLED.partly : SETTLED.wholly;
  if (place.ref !== null && applied.length > 0) ledger.segments.refer(place.ref.segment, 1);
  if (keepsId) {
    if (applied.length > 0) addRecord(ledger, batch, recordId, settled, applied, end, place);
    resume(ledger, batch, rest[0]!, end);
  } else {
    split(ledger, batch, rest, end);
    if (applied.length > 0) settleRecord(ledger, batch, settled, applied, end, place);
    else dropBatch(ledger, batch);
  }
  if (end.output != null && applied.length > 0) ledger.blobs.set(recordId, end.output);
  for (const call of finished) finish(ledger, call, end.now, 'cancelled');
};

const placeOutput = (ledger: Ledger, { output, now }: Conclusion): Place => {
  if (output == null) return { ref: null, inline: null };
  if (output.byteLength <= INLINE_BYTES_MAX) return { ref: null, inline: output };
  return { ref: ledger.segments.append(output, now), inline: null };
};

/** Outcomes of calls that ended meanwhile are late: counted and dropped. */
const liveOutcomes = (ledger: Ledger, outcomes: readonly number[]): number[] => {
  const applied: number[] = [];
  for (let at = 0; at < outcomes.length; at += OUTCOME_WIDTH) {
    if (!ledger.live.has(outcomes[at + 1]!)) {
      ledger.count('late_rows', outcomes[at + 3]);
      continue;
    }
    applied.push(outcomes[at]!, outcomes[at + 1]!, outcomes[at + 2]!, outcomes[at + 3]!, outcomes[at + 4]!);
  }
  return applied;
};

/** The continuations without rows of calls that ended; rows past their deadline join the outcomes. */
const stillRunning = (ledger: Ledger, end: Conclusion, applied: number[]): ContinuationMessage[] => {
  const rest: ContinuationMessage[] = [];
  for (const part of end.continuations) {
    const slices: number[] = [];
    for (let at = 0; at < part.slices.length; at += SLICE_WIDTH) {
      const [id, from, count] = [part.slices[at]!, part.slices[at + 1]!, part.slices[at + 2]!];
      const call = ledger.live.get(id);
      if (call === undefined) continue;
      if (call.deadlineAt !== null && call.deadlineAt <= end.now)
        applied.push(PART.expired, id, from, count, 0);
      else slices.push(id, from, count);
    }
    if (slices.length > 0) rest.push({ ...part, slices });
  }
  return rest;
};

/** Keeps when the calls of a batch first ran and for how long. */
const noteRun = (ledger: Ledger, batch: Batch, { startedAt, handlerMs }: Conclusion): void => {
  if (startedAt == null) return;
  batch.handlerMs += handlerMs ?? 0;
  let last = 0;
  for (let at = 0; at < batch.slices.length; at += SLICE_WIDTH) {
    const id = batch.slices[at]!;
    const call = id === last ? undefined : ledger.live.get(id);
    last = id;
    if (call === undefined) continue;
    call.startedAt = call.startedAt === null ? startedAt : Math.min(call.startedAt, startedAt);
    call.handlerMs += handlerMs ?? 0;
  }
};

/** Gives calls their parts; collects those that are finished by it, and says whether others are not. */
const apply = (
  ledger: Ledger,
  applied: readonly number[],
  recordId: number,
  finished: LiveCall[],
): boolean => {
  let hasUnfinished = false;
  for (let at = 0; at < applied.length; at += OUTCOME_WIDTH) {
    const [state, id, from, count, place] = [
      applied[at]!,
      applied[at + 1]!,
      applied[at + 2]!,
      applied[at + 3]!,
      applied[at + 4]!,
    ];
    const call = ledger.live.get(id)!;
    addPart(call, state, from, count, recordId, place);
    if (call.settled === call.rows) {
      finished.push(call);
    } else {
      hasUnfinished = true;
      ledger.outbox.touch(call, null);
    }
  }
  return hasUnfinished;
};

/** The columns outcomes to output of a record. */
const resultColumns = (applied: readonly number[], { errors }: Conclusion, { ref, inline }: Place) =>
  [
    packNumbers(applied),
    errors === undefined || errors.length === 0 ? null : `[${errors.join(',')}]`,
    ref?.segment ?? null,
    ref?.at ?? null,
    ref?.length ?? null,
    inline,
  ] as const;

const addRecord = (
  ledger: Ledger,
  batch: Batch,
  id: number,
  settled: number,
  applied: readonly number[],
  end: Conclusion,
  place: Place,
): void => {
  ledger.sql.addOutcomes.run(
    id,
    batch.version.id,
    settled,
    batch.reason,
    batch.mode,
    batch.attempts,
    batch.claims,
    end.startedAt ?? null,
    // The batch goes on and carries its handler time, this run's too: counted once after a restart.
    0,
    ...resultColumns(applied, end, place),
  );
};

const settleRecord = (
  ledger: Ledger,
  batch: Batch,
  settled: number,
  applied: readonly number[],
  end: Conclusion,
  place: Place,
): void => {
  const columns = resultColumns(applied, end, place);
  ledger.sql.settleBatch.run(settled, end.startedAt ?? null, batch.handlerMs, ...columns, batch.id);
  forgetBatch(ledger, batch);
};

/** The batch itself runs again, with what is left of its rows. */
const resume = (ledger: Ledger, batch: Batch, part: ContinuationMessage, end: Conclusion): void => {
  eachCall(ledger, batch, letGoOfBatch);
  batch.slices = part.slices;
  batch.mode = part.mode;
  batch.attempts = part.attempts;
  batch.claims = part.claims;
  batch.notBefore = part.notBefore;
  eachCall(ledger, batch, holdBatch);
  ledger.sql.resealBatch.run(
    batch.mode,
    batch.attempts,
    batch.claims,
    batch.notBefore,
    batch.handlerMs,
    packNumbers(batch.slices),
    batch.id,
  );
  if (end.isSilent !== true) makeReady(ledger, batch, end.now);
};

const split = (ledger: Ledger, batch: Batch, rest: readonly ContinuationMessage[], end: Conclusion): void => {
  for (const part of rest) {
    const piece = addBatch(ledger, batch.version, part.slices, { ...part, reason: batch.reason });
    eachCall(ledger, piece, holdBatch);
    if (end.isSilent !== true) makeReady(ledger, piece, end.now);
  }
};
