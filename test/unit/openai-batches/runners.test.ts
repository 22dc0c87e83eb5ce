/** Who runs a batch, what a stop leaves, and what the sweep takes, on every store. */
import { describe, expect, it } from 'vitest';
import { Batches, type BatchRecord } from '../../../services/batches/batch-records.ts';
import { ChunkRun } from '../../../services/batches/chunk-run.ts';
import { chunksOf } from '../../../services/batches/chunks.ts';
import { Files, newId, partKey } from '../../../services/batches/file-records.ts';
import { fileDigests, sweepFiles } from '../../../services/batches/file-sweep.ts';
import { RegistrySweep } from '../../../services/registry/registry-sweep.ts';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { silentLog } from '../../../shared/runtime/log.ts';
import { metrics } from '../../../shared/runtime/metrics.ts';
import type { Artifacts } from '../../../shared/store/ports/artifacts.ts';
import type { Store } from '../../../shared/store/ports/store.ts';
import { compileSpec } from '../../../shared/wire/spec.ts';
import { onEveryOpenedStore } from '../../support/opened-stores.ts';
import { eventually } from '../../support/sluice-process.ts';
import {
  answerAll,
  askedOf,
  callsWait,
  ended,
  lineOf,
  linesIn,
  order,
  runnerRig,
  runOf,
  SPEC,
  upload,
} from './runner-rig.ts';

const DAY_MS = 86_400_000;

/** By this process. */
const rowsAdmitted = async (): Promise<number> => {
  const { values } = await metrics.rowsAdmitted.get();
  return values.find(({ labels }) => labels.function === 'embed')?.value ?? 0;
};

onEveryOpenedStore((openStore) => {
  const { ends, open, runnerOf } = runnerRig(openStore);

  it('a batch is one runner’s; what a stop leaves the next one goes on with, in the same calls', async () => {
    const before = await rowsAdmitted();
    const { server, store, artifacts } = await open();
    const { record } = await store.registry.deploy({ now: Date.now(), spec: compileSpec(SPEC) });
    const file = await upload(
      store,
      artifacts,
      Array.from({ length: 2500 }, (_, i) => lineOf(i)).join(''),
      Date.now(),
    );
    const { id, outputFileId } = await order(store, file);
    const first = await runnerOf(store, artifacts);
    await callsWait(store, record.current.id, 3);
    const token = (await runOf(store, id))!.claim!.token;
    if (!store.coordination.exclusive) {
      const other = server.connect();
      ends.push(() => other.close());
      await runnerOf(other, artifacts);
      await eventually('the claim is renewed', async () => {
        const claim = (await runOf(store, id))!.claim!;
        expect(claim.token).toBe(token);
        return claim.until > Date.now() + 2500;
      });
    }
    await first.stop();
    await first.stop();
    await runnerOf(store, artifacts);
    await eventually('another has it', async () => {
      const claim = (await runOf(store, id))!.claim;
      return claim !== null && claim.token !== token;
    });
    await answerAll(store, record.current.id);
    const done = await ended(store, id);
    expect(done.counts).toEqual({ total: 2500, completed: 2500, failed: 0 });
    expect((await rowsAdmitted()) - before).toBe(2500);
    expect(
      (
        await store.queue.list({
          functionName: 'embed',
          status: null,
          apiKeyId: null,
          before: null,
          limit: 10,
        })
      ).calls,
    ).toHaveLength(3);
    const files = new Files(store.documents, artifacts);
    const output = await files.find(outputFileId, { id: 1, isAdmin: false }, Date.now());
    let text = '';
    for await (const chunk of files.content(output)) text += Buffer.from(chunk).toString();
    expect(
      text
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line).custom_id),
    ).toEqual([...Array(2500).keys()].map(String));
    expect(await runOf(store, id)).toBeUndefined();
  });

  /** A thousand rows, which are a chunk. */
  const fullOf = (id: number): string =>
    askedOf(id, { model: 'embed', input: Array.from({ length: 1000 }, (_, i) => `t${i}`) });
  /** Runs the first chunk, and dies before its place in the file is written. */
  const diedIn = async (store: Store, artifacts: Artifacts, batch: BatchRecord, text: string) => {
    const bytes = (async function* () {
      yield Buffer.from(text);
    })();
    const stop = { signal: new AbortController().signal, code: () => null };
    const halt = new AbortController();
    for await (const chunk of chunksOf(bytes, { byte: 0, line: 1 }, '/v1/embeddings')) {
      const parts = { store, artifacts, wall: () => Date.now(), claimMs: 3000 };
      const run = new ChunkRun(parts, batch, chunk, { stop, halt: halt.signal, mayHaveBegun: false }).run();
      return { run, die: () => halt.abort(new Error('killed')) };
    }
    throw new Error('there is no chunk');
  };
  it('what a chunk would not write again is in no file, when it runs again after its function came', async () => {
    const { store, artifacts } = await open();
    const text = fullOf(1) + askedOf(2, { model: 'nobody', input: 'a' });
    const batch = await order(store, await upload(store, artifacts, text, Date.now()));
    // The function is not there yet: the line is refused.
    expect(await (await diedIn(store, artifacts, batch, text)).run).toMatchObject({ failed: 1 });
    const { record } = await store.registry.deploy({ now: Date.now(), spec: compileSpec(SPEC) });
    await runnerOf(store, artifacts);
    await callsWait(store, record.current.id, 1);
    await answerAll(store, record.current.id);
    expect((await ended(store, batch.id)).counts).toEqual({ total: 2, completed: 1, failed: 1 });
    const [output, errors] = [
      await linesIn(store, artifacts, batch.outputFileId),
      await linesIn(store, artifacts, batch.errorFileId),
    ];
    expect([output, errors].map((lines) => lines.map((line) => line.custom_id))).toEqual([['1'], ['2']]);
  });

  it('a chunk that waited for room until its version went is answered by the current one', async () => {
    const { store, artifacts } = await open();
    const { registry } = store;
    const { digest } = (await registry.deploy({ now: Date.now(), spec: compileSpec(SPEC) })).record.current;
    const next = compileSpec({ ...SPEC, max_batching_size: 50 });
    let gone: readonly string[] = [];
    const admit: typeof store.queue.admit = async (admission) => {
      if (gone.length > 0) return store.queue.admit(admission);
      const now = Date.now();
      await registry.deploy({ now, spec: next });
      const query = { now, name: 'embed', digests: [digest], unusedMs: 0 };
      gone = [...(await registry.retire(query)), ...(await registry.retire(query))];
      throw new SluiceError('queue_full', 'There is no room.');
    };
    const changed = <T extends object>(of: T, change: Partial<T>): T =>
      new Proxy(of, {
        get: (_, name) => {
          const found = name in change ? change[name as keyof T] : of[name as keyof T];
          return typeof found === 'function' ? found.bind(of) : found;
        },
      });
    const batch = await order(store, await upload(store, artifacts, lineOf(1), Date.now()));
    await runnerOf(changed(store, { queue: changed(store.queue, { admit }) }), artifacts);
    const versionId = await eventually('the function has its next version', async () => {
      const { current } = (await registry.function('embed'))!;
      return current.digest !== digest && current.id;
    });
    await eventually('its call waits', async () => {
      const { calls } = await store.queue.open({ versionId, after: 0, limit: 100 });
      return calls.length === 1 || (await runOf(store, batch.id)) === undefined;
    });
    await answerAll(store, versionId);
    expect(gone).toEqual([digest]);
    expect((await ended(store, batch.id)).counts).toEqual({ total: 1, completed: 1, failed: 0 });
  });

  it('a line never gets the rows of another, when its function takes other lines than before', async () => {
    const { store, artifacts } = await open();
    await store.registry.deploy({ now: Date.now(), spec: compileSpec(SPEC) });
    const text = askedOf(1, { model: 'embed', input: 'a' }) + askedOf(2, { model: 'embed', input: [7] });
    const batch = await order(store, await upload(store, artifacts, text, Date.now()));
    const first = await diedIn(store, artifacts, batch, text);
    const versions = await store.registry.function('embed');
    await callsWait(store, versions!.current.id, 1);
    first.die();
    await expect(first.run).rejects.toThrow('killed');
    await answerAll(store, versions!.current.id);
    const inputs = [
      { name: 'text', type: { list: { name: 'item', type: 'int32', nullable: false } }, nullable: false },
    ];
    await store.registry.deploy({ now: Date.now(), spec: compileSpec({ ...SPEC, inputs }) });
    await runnerOf(store, artifacts);
    expect((await ended(store, batch.id)).counts).toEqual({ total: 2, completed: 0, failed: 2 });
    const codes = (await linesIn(store, artifacts, batch.errorFileId)).map(
      (line) => line.response.body.error.code,
    );
    expect(codes).toEqual(['invalid_request', 'changed_meanwhile']);
  });

  it('a line whose values nest without end fails alone', async () => {
    const { store, artifacts } = await open();
    const text = { type: 'utf8', nullable: true };
    const inputs = [
      { ...text, name: 'prompt', nullable: false },
      { ...text, name: 'stop', type: 'json' },
    ];
    const spec = { ...SPEC, task: 'completion', inputs, output: text };
    await store.registry.deploy({ now: Date.now(), spec: compileSpec(spec) });
    const url = '/v1/completions';
    const deep = `${'['.repeat(200_000)}${']'.repeat(200_000)}`;
    const line = `{"custom_id":"a","method":"POST","url":"${url}","body":{"model":"embed","prompt":"a","stop":${deep}}}`;
    const file = await upload(store, artifacts, line, Date.now());
    const { id, errorFileId } = await new Batches(store.documents).create(
      { file, endpoint: url, completionWindow: '1d', metadata: null, outputSeconds: null, lane: 'a' },
      ...([1, Date.now()] as const),
    );
    await runnerOf(store, artifacts);
    expect((await ended(store, id)).counts).toEqual({ total: 1, completed: 0, failed: 1 });
    expect(await linesIn(store, artifacts, errorFileId)).toMatchObject([
      { response: { status_code: 400, body: { error: { code: 'invalid_json' } } } },
    ]);
  });

  it('keeps its claim when the clock is set back', async () => {
    const { store, artifacts } = await open();
    const { record } = await store.registry.deploy({ now: Date.now(), spec: compileSpec(SPEC) });
    const { id } = await order(store, await upload(store, artifacts, lineOf(1), Date.now()));
    let skewMs = 0;
    await runnerOf(store, artifacts, () => Date.now() + skewMs);
    const until = async (): Promise<number> => (await runOf(store, id))!.claim!.until;
    await callsWait(store, record.current.id, 1);
    const before = await until();
    await eventually('it is renewed', async () => (await until()) > before);
    skewMs = -DAY_MS;
    await eventually('it is renewed again', async () => (await until()) < before);
  });

  it('whose call was lost asks for its rows again', async () => {
    const { store, artifacts } = await open();
    const { record } = await store.registry.deploy({ now: Date.now(), spec: compileSpec(SPEC) });
    const { id } = await order(store, await upload(store, artifacts, lineOf(1), Date.now()));
    let losses = 1;
    const watch: typeof store.queue.watch = (query, listener, onLost) => {
      if (query.kind !== 'call' || losses === 0) return store.queue.watch(query, listener, onLost);
      losses -= 1;
      queueMicrotask(() => onLost?.({ code: 'data_lost', detail: 'The call was lost.' }));
      return () => undefined;
    };
    const queue = Object.assign(Object.create(store.queue) as typeof store.queue, { watch });
    await runnerOf(Object.assign(Object.create(store) as Store, { queue }), artifacts);
    await eventually('its call waits', async () => {
      const { calls } = await store.queue.open({ versionId: record.current.id, after: 0, limit: 100 });
      return losses === 0 && calls.length === 1;
    });
    await answerAll(store, record.current.id);
    await eventually('the batch ends', async () => {
      const batch = await new Batches(store.documents).find(id, { id: 1, isAdmin: false });
      return batch.status === 'completed' && batch.counts.completed === 1;
    });
  });

  it('that is cancelled while the store does not hear ends all the same', async () => {
    const { store, artifacts } = await open();
    const { record } = await store.registry.deploy({ now: Date.now(), spec: compileSpec(SPEC) });
    const { id } = await order(store, await upload(store, artifacts, lineOf(1), Date.now()));
    let refusals = 2;
    const queue = Object.assign(Object.create(store.queue) as typeof store.queue, {
      cancel: (query: Parameters<typeof store.queue.cancel>[0]) => {
        refusals -= 1;
        if (refusals >= 0) return Promise.reject(new SluiceError('store_unavailable', 'The store is away.'));
        return store.queue.cancel(query);
      },
    });
    await runnerOf(Object.assign(Object.create(store) as Store, { queue }), artifacts);
    await callsWait(store, record.current.id, 1);
    const batches = new Batches(store.documents);
    await batches.cancel(id, { id: 1, isAdmin: false }, Date.now());
    await eventually('the batch ends', async () => {
      const batch = await batches.find(id, { id: 1, isAdmin: false });
      return batch.status === 'cancelled' && batch;
    });
    expect(refusals).toBe(-1);
  });

  describe('the sweep', () => {
    it('keeps what files and batches refer to, and takes what is past its time', async () => {
      const { store, artifacts } = await open();
      const now = Date.now();
      const [kept, old] = [
        await upload(store, artifacts, 'kept', now),
        await upload(store, artifacts, 'old', now),
      ];
      const key = `1/${old.id}`;
      const { revision } = (await store.documents.get('openai-file', key))!;
      const past = { ...old, expiresAt: now - 1 };
      expect(await store.documents.put({ kind: 'openai-file', key, revision, value: past })).not.toBeNull();
      const { id } = await order(store, kept);
      const part = await upload(store, artifacts, 'part', now);
      const value = { digest: part.digest!, bytes: 4, createdAt: now - 20 * DAY_MS };
      const orphan = partKey(newId('file', 1, now), 1);
      await store.documents.put({ kind: 'openai-part', key: orphan, revision: null, value });
      await sweepFiles(store.documents, now);
      const files = new Files(store.documents, artifacts);
      const { entries } = await files.list(1, { after: null, limit: 10 }, now);
      expect(entries.map((one) => one.id).sort()).toEqual([kept.id, part.id].sort());
      expect(await store.documents.get('openai-part', orphan)).toBeUndefined();
      expect(await runOf(store, id)).toBeDefined();
      await files.remove(part);
      const sweep = new RegistrySweep({
        ...{ store, artifacts, log: silentLog(), wall: () => now + 2 * DAY_MS },
        holdings: async () => ({ tokens: new Set<string>(), digests: new Set<string>(), images: [] }),
        digests: () => fileDigests(store.documents),
      });
      expect(await sweep.sweep()).toMatchObject({ artifacts: 2 });
      expect((await artifacts.state(kept.digest!)).isComplete).toBe(true);
      // A batch goes on without its file.
      await files.remove(kept);
      const digests: string[] = [];
      for await (const digest of fileDigests(store.documents)) digests.push(digest);
      expect(digests).toEqual([kept.digest]);
    });

    it('is one process’s in an hour', async () => {
      const { store } = await open();
      const key = `1/${newId('file', 1, 0)}`;
      const now = Date.now();
      await sweepFiles(store.documents, now);
      const value = { id: key.slice(2), expiresAt: 1 };
      await store.documents.put({ kind: 'openai-file', key, revision: null, value });
      await sweepFiles(store.documents, now + 60_000);
      expect(await store.documents.get('openai-file', key)).toBeDefined();
      await sweepFiles(store.documents, now + 3_600_000);
      expect(await store.documents.get('openai-file', key)).toBeUndefined();
      // The clock is set back.
      await store.documents.put({ kind: 'openai-file', key, revision: null, value });
      await sweepFiles(store.documents, now - DAY_MS);
      expect(await store.documents.get('openai-file', key)).toBeUndefined();
    });
  });
});
