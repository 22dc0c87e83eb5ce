/** The verbs of batches, but for those that make them and end them (seals.ts, settles.ts): offer, lease, extend, release. */
import { randomBytes } from 'node:crypto';
import type { BatchCall, ExtendRequest, LeasedBatch, LeaseRef, LeaseRequest, Offer } from '../ports/queue.ts';
import { unpackSlices } from './batch-packing.ts';
import type { DispatchedBatch } from './dispatch.ts';
import {
  batchIdOf,
  functionOfId,
  functionOfVersion,
  isFunctionNumber,
  serialOfId,
  serialOfVersion,
} from './layout.ts';
import { isObject, MODES, pack, plain, REASONS, readCall, type StoredCall, unpack } from './packing.ts';
import { dispatchReady, noVersion, type QueueContext, runScript } from './queue-context.ts';

export const versionOf = (versionId: number): { fn: number; v: number } => {
  const fn = functionOfVersion(versionId);
  if (!isFunctionNumber(fn)) throw noVersion(versionId);
  return { fn, v: serialOfVersion(versionId) };
};

export const offer = async (context: QueueContext, request: Offer): Promise<void> => {
  const { now, workerId, versionId, idle, prefetch, until } = request;
  const { fn, v } = versionOf(versionId);
  await runScript(context, 'offer', fn, now, [v, workerId, idle, prefetch, until]);
};

/** Tokens of another life of this process never match. */
const tokenPrefix = randomBytes(9).toString('base64url');
let tokens = 0;

type LeasedMeta = [
  m: number,
  token: string,
  attempts: number,
  claims: number,
  mode: number,
  reason: number,
  until: number,
  slices: number[],
  calls: number[],
];

type Worker = LeaseRequest & { readonly fn: number; readonly v: number };
type Leased = {
  readonly batches: readonly LeasedBatch[];
  readonly hasAdded: boolean;
  readonly fault: unknown;
};

/** Rounds of jobs that turn out to be repeats, before a worker waits for the next notification. */
const TAKES_MAX = 8;

export const lease = async (
  context: QueueContext,
  request: LeaseRequest,
): Promise<readonly LeasedBatch[]> => {
  const { versionId, workerId, leaseMs, max } = request;
  const worker = { ...request, ...versionOf(versionId) };
  const { dispatch, announced } = context;
  const given: LeasedBatch[] = [];
  // A dead worker has their jobs, or nobody: they wait for no dispatcher any more.
  if (dispatch !== null && context.overdue.has(versionId)) {
    const { batches, fault } = await leaseJobs(context, worker, [], max);
    given.push(...batches);
    if (fault !== null && given.length === 0) throw fault;
  }
  for (let takes = 0; given.length < max && takes < TAKES_MAX; takes += 1) {
    const most = max - given.length;
    const isKnown = announced.isKnown(versionId);
    const wanted = announced.ask(versionId, most);
    // A dispatcher that has no room must not hold up the work that makes room: its order is left out meanwhile.
    const jobs = (await dispatch?.take(versionId, workerId, wanted, leaseMs).catch(() => null)) ?? null;
    // Where it was not known how many there are, there may be more.
    if (!isKnown && jobs?.length === wanted) announced.forget(versionId);
    const asked = leaseJobs(context, worker, jobs, most);
    // What was given before is held: its caller must hear of it, whatever becomes of the rest.
    const { batches, hasAdded, fault } = await asked.catch(
      (error: unknown): Leased => ({ batches: [], hasAdded: false, fault: error }),
    );
    given.push(...batches);
    if (fault !== null && given.length === 0) throw fault;
    const isOver =
      fault !== null || jobs === null || (jobs.length === 0 ? !hasAdded : batches.length === jobs.length);
    if (isOver) break;
  }
  return given;
};

/**
 * @param jobs null: what is ready in the store's own order; none: what has no job yet, what is overdue, and what a
 *   back-off lets go
 */
const leaseJobs = async (
  context: QueueContext,
  worker: Worker,
  jobs: readonly DispatchedBatch[] | null,
  max: number,
): Promise<Leased> => {
  const { now, fn, v, versionId, workerId, leaseMs } = worker;
  tokens += 1;
  const wanted =
    jobs === null ? '' : pack(jobs.flatMap(({ batchId, attempt }) => [serialOfId(batchId), attempt]));
  const args = [
    v,
    workerId,
    leaseMs,
    max,
    `${tokenPrefix}.${tokens}`,
    wanted,
    context.overdue.get(versionId) ?? 0,
  ];
  const handBack = (error: unknown): never => {
    handBackJobs(context, versionId, jobs ?? []);
    throw error;
  };
  const reply = await runScript<(Buffer | Buffer[])[]>(context, 'lease', fn, now, args).catch(handBack);
  const [first, ...leased] = reply;
  const [added, rest] = unpack<[number[], number[]]>(first as Buffer);
  await dispatchReady(context, fn, added);
  const batches: LeasedBatch[] = [];
  // What cannot be read goes back at no cost.
  let fault: unknown = null;
  for (let at = 0; at < leased.length; at += 2) {
    const meta = unpack<LeasedMeta>(leased[at] as Buffer);
    const describing = describe(context, fn, versionId, meta, leased[at + 1] as Buffer[]);
    const batch = await describing.catch((error: unknown) => {
      fault = error;
      return null;
    });
    if (batch !== null) batches.push(batch);
    else await release(context, { now, batchId: batchIdOf(fn, meta[0]), token: meta[1] }).catch(() => false);
  }
  const later = new Set(rest.map((m) => batchIdOf(fn, m)));
  const [left = [], taken = []] = [true, false].map((is) =>
    jobs?.filter((job) => later.has(job.batchId) === is),
  );
  keepJobs(context, taken, batches);
  const hasAdded = added.length > 0;
  if (rest.length === 0 || fault !== null) {
    handBackJobs(context, versionId, left);
    return { batches, hasAdded, fault };
  }
  // What was given before is held: its caller must hear of it, whatever becomes of the rest.
  const asked = leaseJobs(context, worker, left.length > 0 ? left : jobs, max - batches.length);
  const more = await asked.catch(
    (error: unknown): Leased => ({ batches: [], hasAdded: false, fault: error }),
  );
  return {
    batches: [...batches, ...more.batches],
    hasAdded: hasAdded || more.hasAdded,
    fault: more.fault,
  };
};

/** They wait again, and nobody is told of it. */
const handBackJobs = (
  { dispatch, announced }: QueueContext,
  versionId: number,
  jobs: readonly DispatchedBatch[],
): void => {
  if (jobs.length > 0) announced.forget(versionId);
  for (const { job } of jobs) void dispatch?.handBack(job).catch(() => undefined);
};

/** A job whose batch was not given is a repeat, or its batch is over. */
const keepJobs = (
  { dispatch, jobs }: QueueContext,
  taken: readonly DispatchedBatch[],
  batches: readonly LeasedBatch[],
): void => {
  const tokensOf = new Map(batches.map(({ batchId, token }) => [batchId, token]));
  for (const { batchId, job } of taken) {
    const token = tokensOf.get(batchId);
    tokensOf.delete(batchId);
    if (token !== undefined) jobs.set(batchId, { token, job });
    else dispatch?.done(job).catch(() => undefined);
  }
};

/** null: a payload is not there any more, since its call ended meanwhile. */
const describe = async (
  context: QueueContext,
  fn: number,
  versionId: number,
  meta: LeasedMeta,
  values: readonly Buffer[],
): Promise<LeasedBatch | null> => {
  const [m, token, attempts, claims, mode, reason, leaseUntil, slices, numbers] = meta;
  const stored = values.map((value, index) => readCall(fn, numbers[index]!, value));
  const payloads = await Promise.all(stored.map((call) => payloadOf(context, fn, call)));
  if (payloads.includes(null)) return null;
  return {
    batchId: batchIdOf(fn, m),
    versionId,
    token,
    attempts,
    claims,
    mode: MODES[mode]!,
    reason: REASONS[reason]!,
    leaseUntil,
    slices: unpackSlices(fn, slices),
    calls: stored.map((call, index) => batchCall(call, payloads[index]!)),
  };
};

const batchCall = (call: StoredCall, bytes: Uint8Array): BatchCall => ({
  callId: call.id,
  rows: call.rows,
  payload:
    call.kind % 2 === 0
      ? { kind: 'json', text: Buffer.from(bytes).toString() }
      : { kind: 'arrow', bytes: plain(bytes) },
  arrivedAt: call.arrivedAt,
  deadlineAt: call.deadlineAt,
  metadata: call.extra.metadata,
  traceparent: call.extra.traceparent,
});

/** A large payload is read once, not once for each of its call's batches. */
const payloadOf = async (
  context: QueueContext,
  fn: number,
  { id, kind, payload }: StoredCall,
): Promise<Uint8Array | null> => {
  if (kind < 2) return payload;
  const { link, layout, blobs } = context;
  const known = blobs.get(-id);
  if (known !== undefined) return known;
  const bytes = isObject(kind)
    ? await readObject(context, id, String(payload))
    : await link.command<Buffer | null>('GET', layout.key(fn, 'payload', serialOfId(id)));
  if (bytes !== null) blobs.set(-id, bytes);
  return bytes;
};

/** An object that is lost is noted, so that its call's rows fail instead of being leased for ever. */
const readObject = async (context: QueueContext, callId: number, reference: string) => {
  const bytes = await context.largeBytes.read(reference);
  if (bytes === null)
    await runScript(context, 'lose-payload', functionOfId(callId), Date.now(), [
      serialOfId(callId),
      reference,
    ]);
  return bytes;
};

export const extend = async (
  context: QueueContext,
  { now, leaseMs, leases }: ExtendRequest,
): Promise<{ readonly lost: readonly number[] }> => {
  const groups = Map.groupBy(leases, ({ batchId }) => functionOfId(batchId));
  const asking = [...groups].map(async ([fn, refs]): Promise<number[]> => {
    if (!isFunctionNumber(fn)) return refs.map(({ batchId }) => batchId);
    const args = refs.flatMap(({ batchId, token }) => [serialOfId(batchId), token]);
    const lost = await runScript<number[]>(context, 'extend', fn, now, [leaseMs, ...args]);
    return lost.map((m) => batchIdOf(fn, m));
  });
  const lost = new Set((await Promise.all(asking)).flat());
  for (const batchId of lost) endJob(context, batchId);
  const held = leases.flatMap(({ batchId, token }) => {
    const known = context.jobs.get(batchId);
    return known?.token === token ? [known.job] : [];
  });
  await context.dispatch?.extend(held, leaseMs).catch(() => undefined);
  return { lost: leases.flatMap(({ batchId }) => (lost.has(batchId) ? [batchId] : [])) };
};

/** Nobody waits for it: a job of a turn that is over names nothing. */
export const endJob = ({ jobs, dispatch }: QueueContext, batchId: number, token?: string): void => {
  const known = jobs.get(batchId);
  if (known === undefined || (token !== undefined && known.token !== token)) return;
  jobs.delete(batchId);
  dispatch?.done(known.job).catch(() => undefined);
};

export const release = async (
  context: QueueContext,
  { now, batchId, token }: LeaseRef & { readonly now: number },
): Promise<boolean> => {
  const fn = functionOfId(batchId);
  if (!isFunctionNumber(fn)) return false;
  const reply = await runScript<Buffer>(context, 'release', fn, now, [serialOfId(batchId), token]);
  const [held, added] = unpack<[number, number[]]>(reply);
  endJob(context, batchId, token);
  await dispatchReady(context, fn, added);
  return held === 1;
};
