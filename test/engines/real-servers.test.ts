/** Servers that others wrote, as engines of the whole queue: a FastAPI application under uvicorn, and MLServer. */
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { jsonToPayload } from '../../shared/arrow/index.ts';
import type { FieldJson, FunctionRecord } from '../../shared/domain/function.ts';
import { type EngineChanges, engineSpec, type SpecChanges } from '../unit/workers/http/engine-spec.ts';
import { modelOf } from '../unit/workers/http/model-files.ts';
import { Rig } from '../unit/workers/rig.ts';

const PROGRAMS = path.join(process.env.SLUICE_TEST_ENGINES ?? '', 'bin');
const ENGINES = path.resolve('test/fixtures/engines');
const RETRY = { retries: 2, initialMs: 1, multiplier: 1, maxMs: 1, jitter: 0, retryOn: [], terminalOn: [] };

const field = (name: string, type: FieldJson['type']): FieldJson => ({ name, type, nullable: true });

const served = async (
  files: Readonly<Record<string, string>>,
  engine: EngineChanges,
  changes: SpecChanges,
) => {
  const { artifacts, model } = await modelOf('house', files);
  const rig = await Rig.open({ artifacts });
  const record = await rig.deploy(engineSpec(engine, { ...changes, model, retry: RETRY }));
  const run = async (rows: readonly object[]) => rig.finished(await submit(rig, record, rows));
  return { rig, record, run };
};

const submit = async (rig: Rig, { current }: FunctionRecord, given: readonly object[]): Promise<number> => {
  const { payload, rows, bytes, schemaKey } = jsonToPayload({ rows: given }, current.spec.inputs);
  const facts = {
    apiKeyId: 0,
    lane: '',
    priority: 0,
    deadlineAt: null,
    idempotency: null,
    traceparent: null,
  };
  const { callId } = await rig.store.queue.admit({
    ...{ now: Date.now(), functionName: current.spec.name, versionId: current.id, ...facts },
    ...{ rows, bytes, schemaKey, payload, metadata: {} },
  });
  return callId;
};

describe('FastAPI under uvicorn', () => {
  const engine = (rows: string): EngineChanges => ({
    command: [path.join(PROGRAMS, 'uvicorn'), '--app-dir', ENGINES, 'fastapi_engine:app', '--port', '{port}'],
    basePath: '/house',
    probe: { path: '/house/ready', periodMs: 50 },
    env: { ROWS: rows },
  });
  const house: SpecChanges = {
    inputs: [field('sqft', 'float64'), field('rooms', 'int64')],
    output: { type: 'float64', nullable: true },
  };
  const files = { 'weights.json': '{"factor": 2}' };

  it.each(['inputs', 'instances'])('takes rows as %s and answers them in order', async (rows) => {
    const { run } = await served(files, engine(rows), house);
    const given = Array.from({ length: 20 }, (_, i) => ({ sqft: i, rooms: i % 2 === 0 ? i : null }));
    const { status, values } = await run(given);
    expect(status).toBe('completed');
    expect(values).toEqual(given.map(({ sqft, rooms }) => 2 * sqft + (rooms ?? 0)));
  });

  it('refuses a row with its validation, and its neighbours are answered', async () => {
    const { run } = await served(files, engine('inputs'), house);
    const { values, errors } = await run([
      { sqft: 1, rooms: 1 },
      { sqft: null, rooms: 1 },
      { sqft: 3, rooms: 1 },
    ]);
    expect(values).toEqual([3, null, 7]);
    expect(errors.get(1)).toMatchObject({
      code: 'handler_error',
      kind: 'HTTP 422',
      message: expect.stringMatching(/sqft/),
    });
  });
});

describe('MLServer', () => {
  const port =
    'export MLSERVER_HTTP_PORT=$PORT MLSERVER_GRPC_PORT=$((PORT + 12000)) MLSERVER_METRICS_PORT=$((PORT + 24000))';
  const engine: EngineChanges = {
    protocol: 'oip-v2',
    command: [
      '/bin/sh',
      '-c',
      `${port}; exec ${path.join(PROGRAMS, 'mlserver')} start ${path.join(ENGINES, 'mlserver')}`,
    ],
    env: { MLSERVER_HOST: '127.0.0.1', MLSERVER_PARALLEL_WORKERS: '0', PYTHONDONTWRITEBYTECODE: '1' },
    basePath: '/v2/models/house',
    probe: { path: '/v2/models/house/ready', periodMs: 50 },
  };
  const house: SpecChanges = {
    inputs: [field('sqft', 'float64'), field('town', 'utf8')],
    output: {
      type: {
        struct: [
          field('price', 'float64'),
          field('spread', { fixed_size_list: field('item', 'float64'), size: 2 }),
          field('label', 'utf8'),
        ],
      },
      nullable: true,
    },
  };

  it('gets columns as tensors and answers with structs', async () => {
    const { run } = await served({}, engine, house);
    const { status, values } = await run([
      { sqft: 1, town: 'Ulm' },
      { sqft: 2.5, town: 'Köln' },
    ]);
    expect(status).toBe('completed');
    expect(values).toEqual([
      { price: 2, spread: [0, 2], label: 'Ulm!' },
      { price: 5, spread: [1.5, 3.5], label: 'Köln!' },
    ]);
  });

  it('raises for a row, which fails alone with what it said', async () => {
    const { run, rig, record } = await served({}, engine, house);
    const { values, errors } = await run([
      { sqft: 1, town: 'Ulm' },
      { sqft: 2, town: 'nowhere' },
    ]);
    expect(values).toMatchObject([{ price: 2 }, null]);
    expect(errors.get(1)).toMatchObject({
      code: 'handler_error',
      kind: 'HTTP 500',
      message: expect.stringMatching(/no such town/),
    });
    const { replicas } = await rig.report(record, ({ ready }) => ready === 1);
    expect(replicas).toMatchObject([{ restarts: 0 }]);
  });
});
