/** Runners of batches on a store that was opened for the test, and what their batches and functions are made of. */
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, expect } from 'vitest';
import { Batches, type BatchRecord, type RunRecord } from '../../../services/batches/batch-records.ts';
import { BatchRunner } from '../../../services/batches/batch-runner.ts';
import { type FileRecord, Files, newId } from '../../../services/batches/file-records.ts';
import { rowsToStream } from '../../../shared/arrow/index.ts';
import { silentLog } from '../../../shared/runtime/log.ts';
import { openArtifacts } from '../../../shared/store/artifacts/index.ts';
import type { Artifacts } from '../../../shared/store/ports/artifacts.ts';
import type { StoreServer } from '../../../shared/store/ports/server.ts';
import type { Store } from '../../../shared/store/ports/store.ts';
import { eventually } from '../../support/sluice-process.ts';

const vectors = { list: { name: 'item', type: 'float32', nullable: false } };
export const SPEC = {
  ...{ name: 'embed', runtime: 'node', task: 'embedding', handler: { file: 'f.js', attribute: 'f' } },
  ...{ inputs: [{ name: 'text', type: 'utf8', nullable: false }], output: { type: vectors } },
  ...{ max_batching_size: 100, source: [{ path: 'f.js', content: '' }] },
};
export const lineOf = (id: number): string =>
  `${JSON.stringify({ custom_id: `${id}`, method: 'POST', url: '/v1/embeddings', body: { model: 'embed', input: `t${id}` } })}\n`;

export const askedOf = (id: number, body: object) =>
  `${JSON.stringify({ custom_id: `${id}`, method: 'POST', url: '/v1/embeddings', body })}\n`;

/** Seals, leases and settles what waits, as buffer and worker do it together. */
export const answerAll = async (store: Store, versionId: number): Promise<void> => {
  const { queue, coordination } = store;
  const now = Date.now();
  const member = { now, memberId: 'test', until: now + 60_000 };
  await coordination.join(member);
  const owned = await coordination.own({ ...member, functionName: 'embed', leaseMs: 60_000 });
  const fence = owned?.fence ?? '';
  const { calls } = await queue.open({ versionId, after: 0, limit: 100 });
  await queue.offer({ now, workerId: 'w', versionId, idle: 100, prefetch: 0, until: member.until });
  for (const { callId, from, rows } of calls)
    await queue.seal({ now, versionId, slices: [{ callId, from, count: rows }], reason: 'drain', fence });
  let left = calls.length;
  await eventually('all batches are settled', async () => {
    const leased = await queue.lease({ now, workerId: 'w', versionId, leaseMs: 60_000, max: 10 });
    for (const { batchId, token, slices } of leased) {
      let outputRow = 0;
      const outcomes = slices.map((slice) => {
        const outcome = { ...slice, state: 'ok' as const, outputRow };
        outputRow += slice.count;
        return outcome;
      });
      const fields = [{ name: 'result', type: vectors, nullable: true }];
      const output = rowsToStream({ result: Array.from({ length: outputRow }, (_, i) => [i, 0.5]) }, fields);
      const times = { now, startedAt: now, handlerMs: 1 };
      await queue.settle({ ...times, batchId, token, outcomes, output, continuations: [] });
      left -= 1;
    }
    return left === 0;
  });
};

export const callsWait = (store: Store, versionId: number, count: number) =>
  eventually(`${count} calls wait`, async () => {
    const { calls } = await store.queue.open({ versionId, after: 0, limit: 100 });
    return calls.length === count;
  });

export const upload = async (
  store: Store,
  artifacts: Artifacts,
  text: string,
  now: number,
): Promise<FileRecord> => {
  const bytes = Buffer.from(text);
  const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  await artifacts.append({
    digest,
    offsetBytes: 0,
    bytes: bytes.length,
    body: (async function* () {
      yield bytes;
    })(),
  });
  const record: FileRecord = {
    ...{
      id: newId('file', 1, now),
      owner: 1,
      filename: 'a',
      purpose: 'batch',
      bytes: bytes.length,
      digest,
    },
    ...{ createdAt: now, expiresAt: null },
  };
  await new Files(store.documents, artifacts).put(record);
  return record;
};
export const order = async (
  store: Store,
  file: FileRecord,
  completionWindow = '1d',
  owner = 1,
): Promise<BatchRecord> =>
  new Batches(store.documents).create(
    { file, endpoint: '/v1/embeddings', completionWindow, metadata: null, outputSeconds: null, lane: 'a' },
    owner,
    Date.now(),
  );
export const runOf = async (store: Store, id: string): Promise<RunRecord | undefined> =>
  (await store.documents.get('openai-run', id))?.value as RunRecord | undefined;
export const ended = (store: Store, id: string, status = 'completed') =>
  eventually('the batch ends', async () => {
    const batch = await new Batches(store.documents).find(id, { id: 1, isAdmin: true });
    return batch.status === status && batch;
  });
export const linesIn = async (store: Store, artifacts: Artifacts, fileId: string) => {
  const files = new Files(store.documents, artifacts);
  const record = await files.find(fileId, { id: 1, isAdmin: false }, Date.now());
  const chunks: Uint8Array[] = [];
  for await (const chunk of files.content(record)) chunks.push(chunk);
  const text = Buffer.concat(chunks).toString();
  expect(text).toHaveLength(record.bytes);
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
};

/** What a test opens is closed behind it. */
export const runnerRig = (openStore: () => Promise<StoreServer>) => {
  const ends: (() => unknown)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  });
  const open = async () => {
    const directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-runners-'));
    const server: StoreServer = await openStore();
    const store = server.connect();
    const artifacts = openArtifacts({ kind: 'directory', directory, reserveBytes: 0 } as never);
    ends.push(
      () => rmSync(directory, { recursive: true, force: true }),
      () => server.close(),
      () => store.close(),
      () => artifacts.close(),
    );
    return { server, store, artifacts };
  };

  const runnerOf = async (store: Store, artifacts: Artifacts, wall = Date.now): Promise<BatchRunner> => {
    const runner = new BatchRunner({ store, artifacts, log: silentLog(), wall, claimMs: 3000 });
    await runner.start();
    ends.push(() => runner.stop());
    return runner;
  };
  return { ends, open, runnerOf };
};
