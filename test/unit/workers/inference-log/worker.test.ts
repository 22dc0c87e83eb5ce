/** The inference store of a worker, from settled batches to Parquet files, with the real store, threads and handlers. */
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openArtifacts } from '../../../../shared/store/artifacts/index.ts';
import type { Artifacts } from '../../../../shared/store/ports/artifacts.ts';
import { CallIds } from '../../../../shared/wire/call-id.ts';
import { rowHash } from '../../../../workers/inference-log/sampling.ts';
import { PLAIN_SPEC } from '../../../support/function-spec.ts';
import { inferenceFiles, inferenceRows } from '../../../support/inference-rows.ts';
import { GATED, Gate, nodeSpec, Rig, type SpecChanges, withVerbs } from '../rig.ts';

const DAY_MS = 86_400_000;
const SHOUT = 'export const run = ({ text }) => text.map((t) => t.toUpperCase())';

const directoryArtifacts = async (): Promise<Artifacts> => {
  const directory = await mkdtemp(path.join(tmpdir(), 'sluice-inferences-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return openArtifacts({ kind: 'directory', directory, reserveBytes: 0 });
};

const sampledSpec = (
  body: string,
  { sampleRate = 1, ...changes }: SpecChanges & { sampleRate?: number } = {},
) =>
  nodeSpec(body, {
    name: 'model.shout',
    model: { name: 'shout', version: 3, files: [], loader: null },
    inferenceStore: { sampleRate, retentionMs: DAY_MS, flushMs: 3_600_000 },
    ...changes,
  });

/** What is in the store once the workers have stopped. */
const stopped = async (rig: Rig, artifacts: Artifacts) => {
  await rig.workers.stop();
  return inferenceRows(rig.store.documents, artifacts, 'shout');
};

describe('the inference store of a worker', () => {
  it('has every row with its answer, and what is known of it', async () => {
    const artifacts = await directoryArtifacts();
    const rig = await Rig.open({ artifacts });
    const record = await rig.deploy(sampledSpec(SHOUT));
    const before = Date.now();
    const texts = Array.from({ length: 20 }, (_, at) => `row ${at}`);
    const calls = await Promise.all([rig.submit(record, texts), rig.submit(record, ['last'])]);
    await Promise.all(calls.map((call) => rig.finished(call)));
    const rows = await stopped(rig, artifacts);
    const ids = new CallIds(rig.store.queue.generation);
    expect(rows).toHaveLength(21);
    for (const [at, text] of texts.entries()) {
      const row = rows.find(({ call_id, row }) => call_id === ids.encode(calls[0]!) && row === at)!;
      expect(row).toMatchObject({
        ...{ model: 'shout', model_version: 3, function_version: record.current.digest, attempt: 1 },
        ...{ status: 'ok', error_code: null, error_message: null },
        ...{ input: { text }, output: text.toUpperCase() },
      });
      expect(row.batch_rows).toBeGreaterThan(0);
      expect(row.handler_ms).toBeGreaterThan(0);
      expect((row.time as Date).getTime()).toBeGreaterThanOrEqual(before);
    }
    const [file, ...others] = await inferenceFiles(rig.store.documents, 'shout');
    expect(others).toEqual([]);
    const times = rows.map(({ time }) => (time as Date).getTime());
    expect(file).toMatchObject({
      ...{ group: 'shout', rows: 21, from: Math.min(...times), until: Math.max(...times) },
      ...{ model: 'shout', modelVersion: 3, functionVersion: record.current.digest, retentionMs: DAY_MS },
    });
  });

  it('samples by a hash of call and row', async () => {
    const artifacts = await directoryArtifacts();
    for (const sampleRate of [0.5, 0.05]) {
      const rig = await Rig.open({ artifacts });
      const record = await rig.deploy(sampledSpec(SHOUT, { sampleRate }));
      const texts = Array.from({ length: 400 }, (_, at) => `row ${at}`);
      const call = await rig.submit(record, texts);
      await rig.finished(call);
      const rows = await stopped(rig, artifacts);
      const wanted = texts.flatMap((_, row) => (rowHash(call, row) < sampleRate * 2 ** 32 ? [row] : []));
      expect(rows.map(({ row }) => row).sort((a, b) => Number(a) - Number(b))).toEqual(wanted);
      for (const { row, input, output } of rows)
        expect([input, output]).toEqual([{ text: `row ${row}` }, `ROW ${row}`]);
    }
  });

  it('has each row once, with its last outcome, after retries and bisection', async () => {
    const artifacts = await directoryArtifacts();
    const rig = await Rig.open({ artifacts });
    const body = `export const run = ({ text }) => {
      if (text.includes('bad')) throw new TypeError('a bad row');
      return text.map((t) => t.length);
    }`;
    const retry = { ...PLAIN_SPEC.retry, retries: 2 };
    const output = {
      type: { struct: [{ name: 'n', type: 'float64', nullable: true }] },
      nullable: true,
    } as const;
    const structured = body.replace('t.length', '({ n: t.length })');
    const record = await rig.deploy(sampledSpec(structured, { retry, output }));
    const texts = ['a', 'bb', 'bad', 'cccc', 'bad', 'e', 'ff', 'ggg'];
    const call = await rig.submit(record, texts);
    await rig.finished(call);
    const rows = (await stopped(rig, artifacts)).toSorted((a, b) => Number(a.row) - Number(b.row));
    expect(rows.map(({ row, status, output }) => [row, status, output])).toEqual(
      texts.map((text, row) => [
        row,
        text === 'bad' ? 'failed' : 'ok',
        text === 'bad' ? null : { n: text.length },
      ]),
    );
    expect(rows[2]).toMatchObject({ error_code: 'handler_error', input: { text: 'bad' }, batch_rows: 1 });
    expect(rows[2]!.error_message).toContain('a bad row');
    // Three runs of the whole batch, then halves.
    expect(rows[2]!.attempt).toBeGreaterThan(3);
  });

  it('has no row of a call that was cancelled while it ran', async () => {
    const artifacts = await directoryArtifacts();
    const rig = await Rig.open({ artifacts });
    const batching = { sizeRows: 2, durationMs: 60_000, bytesMax: 2 ** 26 };
    const record = await rig.deploy(sampledSpec(GATED, { batching }));
    const gate = new Gate(rig, 'gate');
    const cancelled = await rig.submit(record, [gate.path]);
    const kept = await rig.submit(record, ['kept']);
    const opening = await open(gate.path, 'w');
    await rig.store.queue.cancel({ now: Date.now(), callId: cancelled });
    await opening.close();
    await rig.finished(kept);
    const rows = await stopped(rig, artifacts);
    expect(rows.map(({ input }) => input)).toEqual([{ text: 'kept' }]);
  });

  it('writes what it has while a stop waits for what runs', async () => {
    const directory = await directoryArtifacts();
    const written = Promise.withResolvers<void>();
    const artifacts = withVerbs(directory, {
      append: async (piece) => {
        const state = await directory.append(piece);
        written.resolve();
        return state;
      },
    });
    const rig = await Rig.open({ artifacts });
    const record = await rig.deploy(sampledSpec(GATED));
    const gate = new Gate(rig, 'gate');
    await rig.finished(await rig.submit(record, ['before']));
    await rig.submit(record, [gate.path]);
    const opening = await open(gate.path, 'w');
    const stopping = rig.workers.stop(60_000);
    await written.promise;
    await opening.close();
    await stopping;
    const rows = await inferenceRows(rig.store.documents, artifacts, 'shout');
    expect(rows.map(({ input }) => (input as { text: string }).text).toSorted()).toEqual([
      gate.path,
      'before',
    ]);
  });
});
