/** Batches as runners settle them, through the real thread, store and artifacts, to the files that are read back. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  fieldsToSchemaMessage,
  readStream,
  rowsToStream,
  sliceStream,
  streamToColumns,
} from '../../../../shared/arrow/index.ts';
import { batchMessage, END_OF_STREAM } from '../../../../shared/arrow/message-frame.ts';
import type { Outcome, Slice } from '../../../../shared/domain/call.ts';
import type { FieldJson, FunctionVersion, TypeJson } from '../../../../shared/domain/function.ts';
import { parquetType } from '../../../../shared/parquet/parquet-type.ts';
import { silentLog } from '../../../../shared/runtime/log.ts';
import { snapshot } from '../../../../shared/runtime/metrics.ts';
import { openArtifacts } from '../../../../shared/store/artifacts/index.ts';
import type { Artifacts } from '../../../../shared/store/ports/artifacts.ts';
import type { Store } from '../../../../shared/store/ports/store.ts';
import { InferenceLog } from '../../../../workers/inference-log/inference-log.ts';
import type { SettledBatch, VersionSampler } from '../../../../workers/inference-log/version-sampler.ts';
import { PLAIN_SPEC } from '../../../support/function-spec.ts';
import { inferenceFiles, inferenceRows } from '../../../support/inference-rows.ts';
import { inBatches, samples } from '../../arrow/samples.ts';
import { openStore } from '../../ingress/rig.ts';

let directory: string;
let server: Awaited<ReturnType<typeof openStore>>;
let store: Store;
let artifacts: Artifacts;
beforeAll(async () => {
  directory = await mkdtemp(path.join(tmpdir(), 'sluice-inference-files-'));
  server = await openStore(path.join(directory, 'data'));
  store = server.connect();
  artifacts = openArtifacts({
    kind: 'directory',
    directory: path.join(directory, 'artifacts'),
    reserveBytes: 0,
  });
});
afterAll(async () => {
  await store.close();
  await server.close();
  // A log that was stopped at once may be at its last file.
  await rm(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
});

const newLog = (more: Partial<ConstructorParameters<typeof InferenceLog>[0]> = {}): InferenceLog =>
  new InferenceLog({
    ...{ documents: store.documents, artifacts, generation: store.queue.generation, log: silentLog() },
    ...more,
  });

let versions = 0;
/** Of a group of its own. */
const versionOf = (
  group: string,
  inputs: readonly FieldJson[] | null,
  output: TypeJson,
  { sampleRate = 1, flushMs = 3_600_000 } = {},
): FunctionVersion => {
  versions += 1;
  return {
    ...{ id: versions, digest: 'abcdef012345', createdAt: 0 },
    spec: {
      ...PLAIN_SPEC,
      name: `model.${group}`,
      inputs,
      output: { type: output, nullable: true },
      model: { name: 'm', version: 2, files: [], loader: null },
      inferenceStore: { sampleRate, retentionMs: 60_000, flushMs },
    },
  };
};

const nullable = (name: string, type: TypeJson): FieldJson => ({ name, type, nullable: true });

type Given = {
  readonly parts: readonly Uint8Array[];
  readonly output?: Uint8Array | null;
  readonly slices?: readonly Slice[];
  readonly outcomes?: readonly Outcome[];
  readonly at?: number;
  readonly attempts?: number;
};

let calls = 0;
/** All rows of one call, and ok, unless it says otherwise. */
const settled = ({
  parts,
  output = null,
  slices,
  outcomes,
  at = 1000,
  attempts = 0,
}: Given): SettledBatch => {
  calls += 1;
  const rows = parts.reduce((sum, part) => sum + readStream(part).rows, 0);
  const own = slices ?? [{ callId: calls, from: 0, count: rows }];
  let outputRow = 0;
  const all = own.map((slice): Outcome => {
    const outcome = { ...slice, state: 'ok' as const, outputRow };
    outputRow += slice.count;
    return outcome;
  });
  return {
    leased: {
      ...{ batchId: 1, versionId: 1, token: 't', attempts, claims: 0, mode: 'fresh', reason: 'size' },
      ...{ leaseUntil: 0, slices: own, calls: [] },
    },
    ...{ rows, parts, at },
    settlement: { outcomes: outcomes ?? all, output, handlerMs: 1.5 },
  };
};

const table = (columns: Record<string, readonly unknown[]>, fields: readonly FieldJson[]) =>
  rowsToStream(columns, fields);
const ints = (values: readonly (number | null)[]) => table({ x: values }, [nullable('x', 'int64')]);
const answers = (values: readonly (string | null)[]) =>
  table({ result: values }, [nullable('result', 'utf8')]);

/** What is in a group's files when the log has stopped. */
const taken = async (log: InferenceLog, group: string) => {
  await log.stop(30_000);
  return inferenceRows(store.documents, artifacts, group);
};
const counted = async (group: string, status: string): Promise<number> => {
  const metric = (await snapshot()).find(({ name }) => name === 'sluice_inference_rows_total');
  const found = metric!.values.find(
    ({ labels }) => labels.function === `model.${group}` && labels.status === status,
  );
  return found?.value ?? 0;
};

describe('a file of the inference store', () => {
  it('has failed rows without an output, and rows of slices of several calls', async () => {
    const log = newLog();
    const sampler = log.of(versionOf('failed', [nullable('x', 'int64')], 'utf8'))!;
    const error = { code: 'handler_error', message: 'm'.repeat(3000), traceback: 'long' };
    sampler.take(
      settled({
        parts: [ints([1, 2]), ints([null, 4, 5])],
        output: answers(['a', null, 'c', null, null]),
        slices: [
          { callId: 101, from: 5, count: 3 },
          { callId: 102, from: 0, count: 2 },
        ],
        outcomes: [
          { callId: 101, from: 5, count: 1, state: 'ok', outputRow: 0 },
          { callId: 101, from: 6, count: 1, state: 'failed', error },
          { callId: 101, from: 7, count: 1, state: 'ok', outputRow: 2 },
          { callId: 102, from: 0, count: 2, state: 'failed', error },
        ],
        attempts: 2,
      }),
    );
    const rows = await taken(log, 'failed');
    expect(rows.map(({ row, status, input, output }) => [row, status, input, output])).toEqual([
      [5, 'ok', { x: 1 }, 'a'],
      [6, 'failed', { x: 2 }, null],
      [7, 'ok', { x: null }, 'c'],
      [0, 'failed', { x: 4 }, null],
      [1, 'failed', { x: 5 }, null],
    ]);
    expect(rows[1]).toMatchObject({
      error_code: 'handler_error',
      error_message: 'm'.repeat(1000),
      attempt: 3,
    });
    expect(rows[0]).toMatchObject({ error_code: null, error_message: null, batch_rows: 5, handler_ms: 1.5 });
    expect(await counted('failed', 'stored')).toBe(5);
  });

  it('writes nothing for what runs again', async () => {
    const log = newLog();
    const sampler = log.of(versionOf('again', [nullable('x', 'int64')], 'utf8'))!;
    sampler.take(settled({ parts: [ints([1, 2])], outcomes: [] }));
    expect(await taken(log, 'again')).toEqual([]);
    expect(await inferenceFiles(store.documents, 'again')).toEqual([]);
  });

  it('holds every type, as input and as output, and in small samples', async () => {
    const log = newLog();
    for (const { name, type, bytes } of samples) {
      const field = nullable('result', type);
      const declared = log.of(versionOf(`t.${name}`, [field], type))!;
      const free = log.of(versionOf(`t.${name}`, null, type))!;
      const few = log.of(versionOf(`f.${name}`, [field], type, { sampleRate: 0.2 }))!;
      for (const stream of [bytes, inBatches(bytes)]) {
        const halves = [[0, 2] as const, [2, 3] as const].map(([from, count]) =>
          sliceStream(readStream(stream), from, count),
        );
        declared.take(settled({ parts: [stream], output: stream }));
        free.take(settled({ parts: halves, output: stream }));
        for (let i = 0; i < 10; i += 1) few.take(settled({ parts: [stream], output: stream }));
      }
    }
    await log.stop(60_000);
    for (const { name, bytes } of samples) {
      const whole = streamToColumns(bytes).result as readonly unknown[];
      const fourTimes = [name, ...Array(4).fill(whole).flat()];
      const rows = await inferenceRows(store.documents, artifacts, `t.${name}`);
      expect([name, ...rows.map(({ input }) => (input as { result: unknown }).result)]).toEqual(fourTimes);
      expect([name, ...rows.map(({ output }) => output)]).toEqual(fourTimes);
      const sampled = await inferenceRows(store.documents, artifacts, `f.${name}`);
      expect(sampled.length).toBeGreaterThan(0);
      expect(sampled.length).toBeLessThan(100);
      for (const { row, input, output } of sampled)
        expect([name, (input as { result: unknown }).result, output]).toEqual([
          ...[name, whole[row as number], whole[row as number]],
        ]);
    }
  });

  const odd: readonly (readonly [string, TypeJson, readonly unknown[], readonly unknown[]])[] = [
    ['struct without members', { struct: [] }, [{}, null], [{}, null]],
    ['seconds', { timestamp: 's', tz: null }, [1, null], [new Date(1000), null]],
    ['time in seconds', { time: 's' }, [1, null], [1000, null]],
    ['decimal above its precision', { decimal: [3, 5], bits: 128 }, ['0.00001', null], ['0.00001', null]],
    ['decimal below its scale', { decimal: [5, -2], bits: 128 }, ['100', null], ['100', null]],
    ['binary of nothing', { fixed_size_binary: 0 }, ['', null], [new Uint8Array(0), null]],
    ['struct in a list', { list: nullable('item', { struct: [] }) }, [[{}], null], [[{}], null]],
  ];
  it('has a type that Parquet does not hold as the nearest that it does', async () => {
    const log = newLog();
    const groupOf = (name: string): string => name.replaceAll(' ', '-');
    for (const [name, type, given] of odd)
      log.of(versionOf(groupOf(name), [nullable('a', type)], type))!.take(
        settled({
          parts: [table({ a: given }, [nullable('a', type)])],
          output: table({ result: given }, [nullable('result', type)]),
        }),
      );
    await log.stop(60_000);
    for (const [name, type, , wanted] of odd) {
      const rows = await inferenceRows(store.documents, artifacts, groupOf(name));
      expect([name, ...rows.map(({ input }) => (input as { a: unknown }).a)]).toEqual([name, ...wanted]);
      expect([name, ...rows.map(({ output }) => output)]).toEqual([name, ...wanted]);
      expect(parquetType(type)).not.toEqual(type);
    }
  });

  it('has an input without columns as an empty object', async () => {
    const log = newLog();
    const sampler = log.of(versionOf('bare', null, 'utf8'))!;
    const rowsAlone = batchMessage({ rows: 2, nodes: [], regions: [], bodyBytes: 0 });
    const bare = Buffer.concat([fieldsToSchemaMessage([]), rowsAlone, END_OF_STREAM]);
    sampler.take(settled({ parts: [bare], output: answers(['a', 'b']) }));
    const rows = await taken(log, 'bare');
    expect(rows.map(({ input, output }) => [input, output])).toEqual([
      [{}, 'a'],
      [{}, 'b'],
    ]);
  });

  it('loses a batch whose values cannot be written, and nothing else', async () => {
    const log = newLog();
    const type: TypeJson = { timestamp: 's', tz: null };
    const sampler = log.of(versionOf('partly', [nullable('a', type)], 'utf8'))!;
    const seconds = (value: number | string): Uint8Array => {
      const bytes = table({ a: [value] }, [nullable('a', 'int64')]);
      const { schemaMessage } = readStream(bytes);
      return Buffer.concat([
        fieldsToSchemaMessage([nullable('a', type)]),
        bytes.subarray(schemaMessage.length),
      ]);
    };
    for (const value of [1, '9223372036854775807', 2])
      sampler.take(settled({ parts: [seconds(value)], output: answers(['x']) }));
    const rows = await taken(log, 'partly');
    expect(rows.map(({ input }) => (input as { a: Date }).a)).toEqual([new Date(1000), new Date(2000)]);
    expect([await counted('partly', 'stored'), await counted('partly', 'dropped')]).toEqual([2, 1]);
  });

  it('has one schema: other columns go to files of their own, and no more than eight stay open', async () => {
    const log = newLog();
    const sampler = log.of(versionOf('various', null, 'utf8'))!;
    for (let i = 0; i < 20; i += 1) {
      const name = `c${i % 10}`;
      sampler.take(
        settled({ parts: [table({ [name]: [i] }, [nullable(name, 'int32')])], output: answers([`${i}`]) }),
      );
    }
    const rows = await taken(log, 'various');
    expect(rows.map(({ input, output }) => [input, output]).toSorted()).toEqual(
      Array.from({ length: 20 }, (_, i) => [{ [`c${i % 10}`]: i }, `${i}`]).toSorted(),
    );
    const files = await inferenceFiles(store.documents, 'various');
    expect(files).toHaveLength(20);
    expect(files.every(({ rows }) => rows === 1)).toBe(true);
  });

  it('closes when it has rows enough, and takes a large batch in several', async () => {
    const log = newLog();
    const sampler = log.of(versionOf('large', [nullable('x', 'int64')], 'utf8'))!;
    const count = 120_000;
    const numbers = Array.from({ length: count }, (_, i) => i);
    sampler.take(settled({ parts: [ints(numbers)], output: answers(numbers.map(String)) }));
    const rows = await taken(log, 'large');
    expect(rows).toHaveLength(count);
    expect(
      rows.every(({ input, output, row }) => output === String(row) && (input as { x: number }).x === row),
    ).toBe(true);
    const files = await inferenceFiles(store.documents, 'large');
    expect(files.map((file) => file.rows).toSorted()).toEqual([20_000, 50_000, 50_000].toSorted());
  });

  it('is written when its first row has waited long enough, and when its version goes', async () => {
    const stored = Promise.withResolvers<void>();
    let files = 0;
    const documents = {
      ...store.documents,
      put: async (query: Parameters<Store['documents']['put']>[0]) => {
        const answer = await store.documents.put(query);
        files += 1;
        if (files === 2) stored.resolve();
        return answer;
      },
    };
    const log = newLog({ documents });
    const soon = log.of(versionOf('soon', [nullable('x', 'int64')], 'utf8', { flushMs: 100 }))!;
    const gone = log.of(versionOf('gone', [nullable('x', 'int64')], 'utf8'))!;
    for (const sampler of [soon, gone]) sampler.take(settled({ parts: [ints([1])], output: answers(['x']) }));
    gone.flush();
    await stored.promise;
    for (const group of ['soon', 'gone'])
      expect(await inferenceRows(store.documents, artifacts, group)).toHaveLength(1);
    await log.stop(0);
  });
});

const LARGE_BYTES = 40 * 2 ** 20;
/** One row of so many bytes, in memory that is shared, as batches of processes are. */
const large = (): Uint8Array => {
  const bytes = table({ x: ['y'.repeat(LARGE_BYTES)] }, [nullable('x', 'utf8')]);
  const shared = new Uint8Array(new SharedArrayBuffer(bytes.length));
  shared.set(bytes);
  return shared;
};

describe('a file whose document was written, though its writer was told that it was not', () => {
  it('has one document', async () => {
    let puts = 0;
    const documents = {
      ...store.documents,
      put: async (query: Parameters<Store['documents']['put']>[0]) => {
        const answer = await store.documents.put(query);
        puts += 1;
        if (puts === 1) throw new Error('the connection was lost before the answer came');
        return answer;
      },
    };
    const log = newLog({ documents });
    const sampler = log.of(versionOf('told-twice', [nullable('x', 'int64')], 'utf8'))!;
    sampler.take(settled({ parts: [ints([1, 2])], output: answers(['a', 'b']) }));
    expect(await taken(log, 'told-twice')).toHaveLength(2);
    expect([puts, await counted('told-twice', 'stored')]).toEqual([2, 2]);
  });
});

describe('what cannot be kept', () => {
  const held = () => {
    const [begun, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const slow: Artifacts = Object.assign(Object.create(artifacts) as Artifacts, {
      append: async (piece: Parameters<Artifacts['append']>[0]) => {
        begun.resolve();
        await gate.promise;
        return artifacts.append(piece);
      },
      state: (digest: string) => artifacts.state(digest),
    });
    return { begun: begun.promise, open: gate.resolve, slow };
  };

  it('is dropped, and counted, while what was taken before waits for the artifacts; then there is room again', async () => {
    const { begun, open, slow } = held();
    const log = newLog({ artifacts: slow });
    const sampler = log.of(versionOf('pressed', [nullable('x', 'utf8')], 'utf8'))!;
    const take = (one: VersionSampler) => one.take(settled({ parts: [large()], output: answers(['x']) }));
    take(sampler);
    await begun;
    take(sampler);
    sampler.take(
      settled({ parts: [table({ x: ['small'] }, [nullable('x', 'utf8')])], output: answers(['x']) }),
    );
    expect(await counted('pressed', 'dropped')).toBe(1);
    open();
    expect(await taken(log, 'pressed')).toHaveLength(2);
    expect(await counted('pressed', 'stored')).toBe(2);
  });

  it('is what is no stream after all, and nothing beside it', async () => {
    const log = newLog();
    const sampler = log.of(versionOf('torn', [nullable('x', 'int64')], 'utf8'))!;
    sampler.take(settled({ parts: [ints([1, 2])], output: answers(['x', 'y']) }));
    sampler.take({
      ...settled({ parts: [ints([3])], output: answers(['x']) }),
      parts: [Uint8Array.of(1, 2, 3)],
    });
    expect(await taken(log, 'torn')).toHaveLength(2);
    expect(await counted('torn', 'dropped')).toBe(1);
  });

  it('is what a thread had that died; the next rows have another one', async () => {
    const deaths: (() => void)[] = [];
    const error = () => deaths.shift()?.();
    // Without the store's generation a thread dies as it starts.
    const log = newLog({ generation: undefined as never, log: { ...silentLog(), error } as never });
    const sampler = log.of(versionOf('dying', [nullable('x', 'int64')], 'utf8'))!;
    for (const dropped of [2, 4]) {
      const { promise, resolve } = Promise.withResolvers<void>();
      deaths.push(resolve);
      sampler.take(settled({ parts: [ints([1, 2])], output: answers(['x', 'y']) }));
      await promise;
      // The thread's end is told, then its rows are given up.
      await new Promise(setImmediate);
      expect(await counted('dying', 'dropped')).toBe(dropped);
    }
    expect(await taken(log, 'dying')).toEqual([]);
  });

  it('is what a stop has no time for', async () => {
    const { begun, open, slow } = held();
    const log = newLog({ artifacts: slow });
    const sampler = log.of(versionOf('late', [nullable('x', 'int64')], 'utf8'))!;
    sampler.take(settled({ parts: [ints([1])], output: answers(['x']) }));
    sampler.flush();
    await begun;
    await log.stop(0);
    sampler.take(settled({ parts: [ints([2])], output: answers(['x']) }));
    expect(await counted('late', 'dropped')).toBe(1);
    open();
  });

  it('is nothing where the function asks for none, and said once where a worker has no artifacts', async () => {
    const warnings: unknown[] = [];
    const warn = (...words: unknown[]) => warnings.push(words.at(-1));
    const log = newLog({ artifacts: null, log: { ...silentLog(), warn } as never });
    const version = versionOf('nowhere', null, 'utf8');
    expect([log.of(version), log.of(versionOf('nowhere', null, 'utf8'))]).toEqual([null, null]);
    expect(warnings).toEqual([expect.stringContaining('no place for artifacts')]);
    const { inferenceStore: _, ...plain } = version.spec;
    expect(newLog().of({ ...version, spec: plain })).toBeNull();
  });
});
