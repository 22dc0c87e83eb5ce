/** Batches to engines of the Open Inference Protocol: every type there and back, in JSON and in the binary form. */
import path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { InputStream, rowsToStream, streamToColumns } from '../../../../shared/arrow/index.ts';
import type { FieldJson } from '../../../../shared/domain/function.ts';
import type { HandlerAnswer } from '../../../../workers/handler.ts';
import { startLocalEngine } from '../../../../workers/http/local-engine.ts';
import { freePort } from '../../../support/free-port.ts';
import { CONTEXT } from '../grpc/handler-server.ts';
import { type EngineChanges, engineSpec, type SpecChanges } from './engine-spec.ts';

const ECHO = path.resolve('test/fixtures/engines/oip-echo.ts');

const echo = (...options: readonly string[]): EngineChanges => ({
  protocol: 'oip-v2',
  command: [process.execPath, ECHO, '{port}', ...options],
  basePath: '/v2/models/echo',
  probe: { path: '/v2/models/echo/ready' },
});

/** A started engine; `lines` is what it has printed. */
const started = async (engine: EngineChanges, changes: SpecChanges) => {
  const spec = engineSpec(engine, changes);
  const lines: string[] = [];
  const replica = startLocalEngine({
    version: { id: 1, digest: 'abc', createdAt: 0, spec },
    port: await freePort(),
    modelDirectory: null,
    inherited: {},
    devices: {},
    onLine: (_, text) => lines.push(text),
  });
  onTestFinished(() => replica.stop(5000));
  await replica.ready;
  const run = (parts: readonly Uint8Array[], rows: number): Promise<HandlerAnswer> =>
    replica.run(
      { rows, parts: parts.map((part) => new InputStream([part])) },
      CONTEXT,
      new AbortController().signal,
      () => undefined,
    );
  return { run, lines, replica };
};

const resultOf = (answer: HandlerAnswer): unknown[] => {
  if (answer.end !== 'ok') throw new Error(JSON.stringify(answer));
  const [output] = answer.outputs;
  return [...(streamToColumns(output!.stream).result as unknown[])];
};

const field = (name: string, type: FieldJson['type']): FieldJson => ({ name, type, nullable: true });
const vector = (size: number): FieldJson['type'] => ({
  fixed_size_list: { name: 'item', type: 'float32', nullable: true },
  size,
});

const VALUES: readonly (readonly [FieldJson['type'], readonly unknown[]])[] = [
  ['bool', [true, false, true]],
  ['int8', [-128, 0, 127]],
  ['int16', [-32_768, 0, 32_767]],
  ['int32', [-(2 ** 31), 0, 2 ** 31 - 1]],
  ['int64', [-(2n ** 63n), 0, 2n ** 63n - 1n]],
  ['uint8', [0, 1, 255]],
  ['uint16', [0, 1, 65_535]],
  ['uint32', [0, 1, 2 ** 32 - 1]],
  ['uint64', [0, 1, 2n ** 64n - 1n]],
  ['float16', [0.5, -2, 65_504]],
  ['float32', [0.5, -2, 2 ** 100]],
  ['float64', [0.1, -2, 1e300]],
  ['utf8', ['', 'ü', 'a "quoted" line\n']],
  [vector(2), [Float32Array.of(1, 2), Float32Array.of(3, 4), Float32Array.of(5, 6)]],
  [
    { list: field('item', vector(1)) },
    [
      [[1], [2]],
      [[3], [4]],
      [[5], [6]],
    ].map((row) => row.map((one) => Float32Array.from(one))),
  ],
];

describe.each([
  ['JSON', []],
  ['the binary form', ['binary']],
])('in %s', (_, options) => {
  it('every type comes back as it went, all columns of a batch in one request', async () => {
    const inputs = VALUES.map(([type], i) => field(`in_${i}`, type));
    const output = { struct: VALUES.map(([type], i) => field(`out_${i}`, type)) };
    const { run, lines } = await started(echo(...options), {
      inputs,
      output: { type: output, nullable: true },
    });
    const part = (from: number, to: number): Uint8Array =>
      rowsToStream(
        Object.fromEntries(VALUES.map(([, values], i) => [`in_${i}`, values.slice(from, to)])),
        inputs,
      );
    const rows = resultOf(await run([part(0, 1), part(1, 3)], 3));
    expect(rows).toEqual(
      [0, 1, 2].map((row) => Object.fromEntries(VALUES.map(([, values], i) => [`out_${i}`, values[row]]))),
    );
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/^rows 3, shapes \[3\].* \[3,2\] \[3,2,1\]$/);
  });
});

describe('an engine of the protocol', () => {
  const x = field('x', 'float64');
  const number: SpecChanges = { inputs: [x], output: { type: 'float64', nullable: true } };

  it('gets bytes that are no text, and NaN, in the binary form', async () => {
    const bytes = [Uint8Array.of(0xff, 0xfe), Uint8Array.of()];
    const inputs = [field('x', 'binary')];
    const { run } = await started(echo('binary'), { inputs, output: { type: 'binary', nullable: true } });
    expect(resultOf(await run([rowsToStream({ x: bytes }, inputs)], 2))).toEqual(bytes);
    const other = await started(echo('binary'), number);
    expect(resultOf(await other.run([rowsToStream({ x: [Number.NaN] }, [x])], 1))).toEqual([Number.NaN]);
  });

  it('gets rows of one value as its model has them', async () => {
    const { run, lines } = await started(echo('column'), number);
    expect(resultOf(await run([rowsToStream({ x: [1, 2] }, [x])], 2))).toEqual([1, 2]);
    expect(lines).toEqual(['rows 2, shapes [2,1]']);
  });

  it('is not asked for what a tensor cannot say, and answers what it is asked next', async () => {
    const { run, lines } = await started(echo(), number);
    expect(await run([rowsToStream({ x: [1, null] }, [x])], 2)).toMatchObject({
      end: 'error',
      isFinal: true,
      error: {
        code: 'handler_error',
        kind: 'TensorError',
        message: 'column "x" is null in row 1; a tensor cannot say that',
      },
    });
    expect(lines).toEqual([]);
    expect(resultOf(await run([rowsToStream({ x: [3] }, [x])], 1))).toEqual([3]);
  });

  it('takes any columns and answers JSON where a model declares neither', async () => {
    const { run } = await started(echo(), { inputs: null, output: { type: 'json', nullable: true } });
    const rows = rowsToStream({ in_a: [1.5, 2], b: ['x', 'y'] });
    expect(resultOf(await run([rows], 2))).toEqual([
      { out_a: 1.5, b: 'x' },
      { out_a: 2, b: 'y' },
    ]);
  });

  it('is told what is wrong with its outputs', async () => {
    const wrong = async (output: FieldJson['type'], options: readonly string[] = []) => {
      const { run } = await started(echo(...options), {
        ...number,
        output: { type: output, nullable: true },
      });
      const answer = await run([rowsToStream({ x: [1.5] }, [x])], 1);
      return answer.end === 'error' ? answer.error : answer;
    };
    expect(await wrong('int64')).toMatchObject({
      code: 'handler_output_invalid',
      message: expect.stringMatching(/output "x" is FP64, which does not cast to int64/),
    });
    expect(await wrong({ struct: [field('price', 'float64'), field('tax', 'float64')] })).toMatchObject({
      code: 'handler_output_invalid',
      message: expect.stringMatching(/it has the outputs "x", and none of price, tax/),
    });
  });

  it('that says 400 ends the attempt for good', async () => {
    const { run } = await started({ ...echo(), basePath: '/v2/models/other' }, number);
    const answer = await run([rowsToStream({ x: [1] }, [x])], 1);
    expect(answer).toMatchObject({
      end: 'error',
      error: {
        kind: 'HTTP 404',
        message: 'the engine answered 404 to POST /v2/models/other/infer: no such model',
      },
    });
  });
});
