/** Batches through a real server of ours: values, errors, crashes, order, limits. */
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { checkOutput, InputStream, rowsToStream } from '../../../../shared/arrow/index.ts';
import type { FunctionSpec } from '../../../../shared/domain/function.ts';
import {
  batchOf,
  CONTEXT,
  field,
  type HandlerServer,
  ours,
  runBatch,
  specOf,
  startServer,
  valuesOf,
} from './handler-server.ts';

const X = [field('x', 'int64')];
const INT = { type: 'int64', nullable: true } as const;

/** One server for what leaves it as it was: the function's name chooses. */
const MODULE = `
import asyncio, json
import pyarrow as pa
import pyarrow.compute as pc

class Odd(KeyError):
    pass

running = 0

def double(event, context): return pc.multiply(event["x"], 2)
def told(event, context): return [json.dumps(context)]
def columns(event, context):
    return {"label": ["a", "b"], "score": pa.array([1, 2], pa.int64()), "rest": [0, 0]}
def vectors(event, context): return [[0.5, 1.5]] * len(event["x"])
def literal(event, context): return eval(event["x"][0].as_py())
def odd(event, context):
    if event["x"][0].as_py() < 0: raise Odd("né")
    return event["x"]
def wordy(event, context): raise ValueError("é" * 20_000)
def items(event, context):
    for v in event["x"].to_pylist():
        if v < 0: raise ValueError("negative")
        yield [v]
def endless(event, context):
    while True: yield [1]
async def patient(event, context):
    global running
    running += 1
    try:
        if event["x"][0].as_py() < 0: await asyncio.Event().wait()
        return [running]
    finally: running -= 1
def large(event, context): return pa.array(["a" * (2**25 + 1)], pa.large_utf8())
def nothing(event, context): return [name for name in event for _ in event[name]]

def handler(event, context): return globals()[context["function_name"]](event, context)
`;

describe('a handler behind gRPC', () => {
  let server: HandlerServer;
  beforeAll(async () => {
    server = await startServer(MODULE, ours('--handler', 'model.handler'));
  });
  afterAll(() => server.stop());
  const at = (name: string, output: FunctionSpec['output'] = INT, inputs = X) =>
    server.replica(specOf(inputs, output, name));

  it('answers a batch whose parts differ by lossless casts, in row order', async () => {
    const parts = [
      rowsToStream({ x: [1, 2] }, [field('x', 'int8')]),
      rowsToStream({ x: [2 ** 40] }, X),
      rowsToStream({ x: [null, 7] }, [field('x', 'uint32')]),
    ];
    const answer = await runBatch(await at('double'), {
      rows: 5,
      parts: parts.map((part) => new InputStream([part])),
    });
    expect(valuesOf(answer)).toEqual([2, 4, 2 ** 41, null, 14]);
    if (answer.end === 'ok')
      expect(answer.outputs.map(({ stream, rows }) => checkOutput(stream, INT, rows).rows)).toEqual([5]);
  });

  it('gives handlers the function, the batch and the trace', async () => {
    const replica = await at('told', { type: 'utf8', nullable: false });
    const [text] = valuesOf(await runBatch(replica, batchOf({ x: [1] })));
    expect(JSON.parse(text as string)).toMatchObject({
      function_name: 'told',
      version: 'abc',
      batch_id: 12,
      attempt: 2,
      deadline_ms: CONTEXT.deadlineAt,
      traceparent: CONTEXT.traceparent,
      metadata: { 'x-sluice-function': 'f' },
    });
  });

  it('calls a function without inputs with rows all the same', async () => {
    const replica = await at('nothing', { type: 'utf8', nullable: false }, []);
    expect(valuesOf(await runBatch(replica, { rows: 2, parts: [] }))).toEqual([
      '__chalk_no_args__',
      '__chalk_no_args__',
    ]);
  });

  it('makes a struct of several columns by name, and casts what fits', async () => {
    const type = { struct: [field('score', 'float32'), field('label', 'large_utf8')] };
    const replica = await at('columns', { type, nullable: true });
    expect(valuesOf(await runBatch(replica, batchOf({ x: [1, 2] })))).toEqual([
      { score: 1, label: 'a' },
      { score: 2, label: 'b' },
    ]);
  });

  it('takes vectors that come as lists where their length is declared', async () => {
    const type = { fixed_size_list: field('item', 'float32'), size: 2 };
    const values = valuesOf(
      await runBatch(await at('vectors', { type, nullable: true }), batchOf({ x: [1, 2] })),
    );
    expect(values).toEqual([new Float32Array([0.5, 1.5]), new Float32Array([0.5, 1.5])]);
  });

  it.each([
    ['{"a": [1], "b": [2]}', 'int64', /the columns "a", "b"; it needs one column/],
    ['["text"]', 'int64', /utf8 does not cast to int64/],
    ['[2.5]', 'int64', /the value 2.5 of float64 does not fit int64/],
    ['[300]', 'int8', /the value 300 of int64 does not fit int8/],
    ['[1, 2]', 'int64', /got 1 rows and returned 2/],
    ['[]', 'int64', /got 1 rows and returned 0/],
    ['{"a": [1], "b": [1, 2]}', 'int64', /columns of different lengths/],
    ['[[1, 2, 3]]', { fixed_size_list: field('item', 'int64'), size: 2 }, /a list of 3 items does not fit/],
  ] as const)('refuses the answer %s for %j', async (values, type, message) => {
    const replica = await at('literal', { type, nullable: true }, [field('x', 'utf8')]);
    const answer = await runBatch(replica, batchOf({ x: [values] }));
    expect(answer).toMatchObject({ end: 'error', error: { code: 'handler_output_invalid' } });
    if (answer.end === 'error') expect(answer.error.message).toMatch(message);
  });

  it('tells kind, message, traceback and classes of an exception, and goes on', async () => {
    const replica = await at('odd');
    const failed = await runBatch(replica, batchOf({ x: [-1] }));
    expect(failed).toMatchObject({
      end: 'error',
      error: { code: 'handler_error', kind: 'Odd', message: "'né'" },
      mro: ['Odd', 'KeyError', 'LookupError', 'Exception', 'BaseException'],
    });
    if (failed.end === 'error') expect(failed.error.traceback).toMatch(/model\.py", line \d+, in odd/);
    expect(valuesOf(await runBatch(replica, batchOf({ x: [1] })))).toEqual([1]);
  });

  it('cuts a long message so that it fits into a status', async () => {
    const answer = await runBatch(await at('wordy'), batchOf({ x: [1] }));
    expect(answer).toMatchObject({ end: 'error', error: { kind: 'ValueError' } });
    if (answer.end === 'error') expect(answer.error.message).toMatch(/^é{100,}/);
  });

  it('keeps what a generator yielded before it failed', async () => {
    const replica = await at('items');
    expect(valuesOf(await runBatch(replica, batchOf({ x: [1, 2, 3] })))).toEqual([1, 2, 3]);
    const failed = await runBatch(replica, batchOf({ x: [4, 5, -1, 6] }));
    expect(failed).toMatchObject({ end: 'error', error: { kind: 'ValueError' } });
    if (failed.end === 'error') expect(failed.outputs?.map(({ rows }) => rows)).toEqual([1, 1]);
  });

  it('ends a generator that never ends', async () => {
    const answer = await runBatch(await at('endless'), batchOf({ x: [1, 2] }));
    expect(answer).toMatchObject({ end: 'error', error: { code: 'handler_output_invalid' } });
  });

  it('runs one batch at a time, in order, and cancels the one that nobody wants', async () => {
    const replica = await at('patient');
    const abort = new AbortController();
    const order: number[] = [];
    const hung = runBatch(replica, batchOf({ x: [-1] }), abort.signal, () => order.push(0));
    const next = [1, 2, 3].map((n) => runBatch(replica, batchOf({ x: [n] }), undefined, () => order.push(n)));
    abort.abort();
    expect(await hung).toMatchObject({ end: 'error', error: { kind: 'gRPC CANCELLED' } });
    const [first, ...others] = (await Promise.all(next)).map(valuesOf);
    // What is cancelled leaves the server in its own time.
    expect([[1], [2]]).toContainEqual(first);
    expect(others).toEqual([[1], [1]]);
    expect(order).toEqual([0, 1, 2, 3]);
  });

  it('gives back what waits and finishes what runs when its batches are withdrawn', async () => {
    const replica = await at('double');
    const running = runBatch(replica, batchOf({ x: [1] }));
    const waiting = [2, 3].map((n) => runBatch(replica, batchOf({ x: [n] })));
    replica.withdraw();
    expect(await Promise.all(waiting)).toEqual([{ end: 'unstarted' }, { end: 'unstarted' }]);
    expect(valuesOf(await running)).toEqual([2]);
    expect(valuesOf(await runBatch(replica, batchOf({ x: [4] })))).toEqual([8]);
  });

  it('refuses a batch and an answer above 32 MiB by name', async () => {
    const inputs = [field('x', 'large_utf8')];
    const replica = await at('large', { type: 'large_utf8', nullable: true }, inputs);
    const large = await runBatch(replica, batchOf({ x: ['a'.repeat(2 ** 25)] }, inputs));
    expect(large).toMatchObject({ end: 'error', error: { kind: 'MessageTooLarge' } });
    const answer = await runBatch(replica, batchOf({ x: ['a'] }, inputs));
    expect(answer).toMatchObject({ end: 'error', error: { kind: 'MessageTooLarge' } });
  });
});

describe('the end of a server', () => {
  const serve = async (body: string): Promise<HandlerServer> => {
    const server = await startServer(body, ours('--handler', 'model.handler'));
    onTestFinished(server.stop);
    return server;
  };

  it('is a crash of the batch that runs, and says how it died', async () => {
    const server = await serve('import os\ndef handler(event, context):\n  os._exit(3)');
    const replica = await server.replica(specOf(X, INT));
    const begun: number[] = [];
    const [running, waiting] = await Promise.all([
      runBatch(replica, batchOf({ x: [1] }), undefined, () => begun.push(1)),
      runBatch(replica, batchOf({ x: [2] }), undefined, () => begun.push(2)),
    ]);
    expect(running).toMatchObject({ end: 'crash', error: { code: 'handler_crashed' } });
    if (running.end === 'crash') expect(running.error.message).toMatch(/it left with code 3/);
    expect(waiting).toEqual({ end: 'unstarted' });
    expect(begun).toEqual([1]);
    expect(await replica.gone).toBe('it left with code 3');
    expect(await runBatch(replica, batchOf({ x: [3] }))).toEqual({ end: 'unstarted' });
  });

  it('comes after what was taken is answered, when it is stopped', async () => {
    const server = await serve(
      'def handler(event, context):\n  return event["x"]\ndef on_shutdown():\n  print("shut down", flush=True)',
    );
    const replica = await server.replica(specOf(X, INT));
    const running = runBatch(replica, batchOf({ x: [1] }));
    const stopped = replica.stop(30_000);
    expect(await runBatch(replica, batchOf({ x: [2] }))).toEqual({ end: 'unstarted' });
    expect(valuesOf(await running)).toEqual([1]);
    await stopped;
    expect(await replica.gone).toBe('it left with code 0');
    expect(server.output()).toMatch(/shut down/);
  });

  it('comes before it serves when its startup hook fails, and says why', async () => {
    const server = await serve(
      'def on_startup():\n  raise RuntimeError("no weights")\ndef handler(event, context): ...',
    );
    await expect(server.starting(specOf(X, INT)).ready).rejects.toThrow(/it left with code 1/);
    expect(server.output()).toMatch(/RuntimeError: no weights/);
  });
});
