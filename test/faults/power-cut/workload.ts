/**
 * The process that the power is cut from: admits, seals, settles, cancels and sweeps under load, and writes a line to
 * the facts file for everything that was acknowledged, behind the acknowledgement. Runs until it is killed, or until
 * it has made `calls` calls.
 * Arguments: data directory, facts file, durability, calls, seed.
 */
import { openSync, writeSync } from 'node:fs';
import { openEmbeddedStore } from '../../../shared/store/embedded/index.ts';
import type { LeasedBatch, WaitingCall } from '../../../shared/store/ports/queue.ts';
import { LIMITS } from '../../contract/factory.ts';
import { okOutcomes, specOf } from '../../contract/workshop.ts';
import { Random } from '../../sim/random.ts';
import { outputOf, payloadOf } from './evidence.ts';

const [directory, factsFile, durability, calls, seed] = process.argv.slice(2) as [
  string,
  string,
  'fsync' | 'memory',
  string,
  string,
];
const random = new Random(Number(seed));
const facts = openSync(factsFile, 'w');
const tell = (...words: readonly (string | number)[]): void => void writeSync(facts, `${words.join(' ')}\n`);

const server = await openEmbeddedStore({
  ...LIMITS,
  acknowledgedRetentionMs: 0,
  directory,
  durability,
});
const store = server.connect();
const { queue } = store;
const started = Date.now();
const { record } = await store.registry.deploy({ now: started, spec: specOf('f') });
const versionId = record.current.id;
tell('deployed', record.current.digest);

/** Sizes that lie inline, in overflow pages and in segments. */
const sizes = [40, 40, 300, 60_000, 60_000, 60_000, 200_000];
let [made, open] = [0, 0];

const admit = async (): Promise<void> => {
  made += 1;
  const [key, rows] = [made, Math.floor(random.next() * 5)];
  const bytes = sizes[Math.floor(random.next() * sizes.length)]!;
  const idempotency = key % 5 === 0 ? { key: `k${key}`, bodyDigest: 'd' } : null;
  const { callId } = await queue.admit({
    now: Date.now(),
    functionName: 'f',
    versionId,
    apiKeyId: 0,
    lane: '',
    priority: 0,
    deadlineAt: null,
    rows,
    bytes,
    schemaKey: '',
    payload: { kind: 'json', text: payloadOf(key, bytes) },
    idempotency,
    metadata: { key: String(key) },
    traceparent: null,
  });
  tell('admitted', callId, rows, key, bytes);
  open += 1;
  if (key % 11 === 0) {
    // Told before, since a settle on its way may find the call cancelled, and is accepted with its rows dropped.
    tell('cancelling', callId);
    const { calls: cancelled } = await queue.cancel({ now: Date.now(), callId });
    if (cancelled === 1) tell('cancelled', callId);
  }
  if (key % 40 === 0) await sweep(callId);
};

/** Lets go of the calls of some time ago. Told before, since the power may go between the sweep and its answer. */
const sweep = async (callId: number): Promise<void> => {
  for (let id = callId - 60; id < callId - 40; id += 1) {
    tell('released', id);
    await store.retention.acknowledge({ now: Date.now(), callId: id });
  }
  await store.retention.sweep({ now: Date.now(), limit: 20 });
};

const settle = async (batch: LeasedBatch): Promise<void> => {
  const isSplit = batch.mode === 'fresh' && batch.slices.length > 1 && random.next() < 0.2;
  const [kept, again] = isSplit ? [batch.slices.slice(1), batch.slices.slice(0, 1)] : [batch.slices, []];
  const answer = await queue.settle({
    now: Date.now(),
    batchId: batch.batchId,
    token: batch.token,
    outcomes: okOutcomes(kept),
    output: outputOf(batch.token, random.next() < 0.1 ? 150_000 : 200),
    continuations:
      again.length === 0 ? [] : [{ slices: again, attempts: 1, claims: 0, mode: 'retry', notBefore: 0 }],
    startedAt: Date.now(),
    handlerMs: 1,
  });
  if (!answer.accepted) return;
  for (const { callId, from, count } of kept) tell('settled', callId, from, count, batch.token);
};

const waiting: WaitingCall[] = [];
queue.watch({ kind: 'waiting' }, (some) => waiting.push(...some));
const work = async (): Promise<void> => {
  const slices = waiting.splice(0, 10).map(({ callId, from, rows }) => ({ callId, from, count: rows }));
  if (slices.length > 0) await queue.seal({ now: Date.now(), versionId, slices, reason: 'size', fence: '' });
  const query = { now: Date.now(), workerId: 'w', versionId, leaseMs: 60_000, max: 2 };
  await Promise.all((await queue.lease(query)).map(settle));
};

const loop = async (step: () => Promise<void>): Promise<void> => {
  while (made < Number(calls)) await step();
};
await Promise.all([loop(admit), loop(admit), loop(admit), loop(work), loop(work)]);
tell('ended', made, open);
// Nothing is closed: the power goes in any case.
process.kill(process.pid, 'SIGKILL');
