import { describe, expect, it } from 'vitest';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { compileSpec, presentSpec, updatedBatching } from '../../../shared/wire/spec.ts';

const base = {
  name: 'embed',
  runtime: 'python',
  handler: { file: 'embed.py', attribute: 'embed' },
  inputs: [{ name: 'text', type: 'utf8', nullable: false }],
  output: { type: 'float64', nullable: true },
  source: [{ path: 'embed.py', content: 'YQ==' }],
};
const refusal = (more: object): SluiceError => {
  try {
    compileSpec({ ...base, ...more });
  } catch (error) {
    if (error instanceof SluiceError) return error;
    throw error;
  }
  throw new Error(`accepted ${JSON.stringify(more)}`);
};

describe('a spec', () => {
  it('gets every default', () => {
    expect(compileSpec(base)).toMatchObject({
      inputMode: 'columns',
      batching: { sizeRows: null, durationMs: 0, bytesMax: 64 * 2 ** 20 },
      retry: {
        retries: 3,
        initialMs: 200,
        multiplier: 2,
        maxMs: 30_000,
        jitter: 0.2,
        retryOn: [],
        terminalOn: [],
      },
      ...{ isolation: 'bisect', callTimeoutMs: 300_000, replicas: { min: 1, max: 1 } },
      resources: { cpu: null, memoryBytes: null, gpu: null },
      environment: { base: null, steps: [], env: {}, isolated: false, interpreter: null },
    });
  });

  it('knows the batching defaults that depend on each other', () => {
    const batching = (more: object) => compileSpec({ ...base, ...more }).batching;
    expect(batching({ max_batching_size: 25 })).toMatchObject({ sizeRows: 25, durationMs: 1000 });
    expect(batching({ max_buffer_duration: 50 })).toMatchObject({ sizeRows: 1000, durationMs: 50 });
    expect(batching({ max_batching_size: 25, max_buffer_duration: 0 })).toMatchObject({
      sizeRows: 25,
      durationMs: 0,
    });
    expect(batching({ max_batching_size: null, max_buffer_duration: null }).sizeRows).toBeNull();
  });

  it('is shown as it was sent, whole and without its source', () => {
    const shown = presentSpec(compileSpec({ ...base, max_batching_size: 25, min_replicas: 3 }));
    expect(shown).toMatchObject({
      max_batching_size: 25,
      max_buffer_duration: 1000,
      min_replicas: 3,
      max_replicas: 3,
    });
    expect(shown).not.toHaveProperty('source');
    expect(presentSpec(compileSpec({ ...shown, source: base.source }))).toEqual(shown);
  });

  it.each([
    ['name', { name: '../etc' }, /letters/],
    ['name', { name: 'x'.repeat(129) }, /128/],
    ['runtime', { runtime: 'ruby' }, /"ruby"; give one of python, node/],
    ['handler.file', { handler: { file: 'other.py', attribute: 'f' } }, /embed\.py/],
    ['handler', { handler: null }, /file, attribute/],
    ['inputs', { inputs: null }, /table/],
    ['inputs', { inputs: [] }, /at least one/],
    ['inputs[1].name', { inputs: [...base.inputs, ...base.inputs] }, /no other/],
    ['inputs[0].type', { inputs: [{ name: 'x', type: 'text' }] }, /"text" is not a type/],
    ['output.type', { output: {} }, /type/],
    ['output.type', { output: { type: 'any' } }, /a type of its own/],
    [
      'output.type',
      { output: { type: { list: { name: 'item', type: 'any', nullable: true } } } },
      /a type of its own/,
    ],
    ['max_batching_size', { max_batching_size: 0 }, /from 1 to 1000000/],
    ['max_batching_size', { max_batching_size: 2.5 }, /2\.5/],
    ['max_buffer_duration', { max_buffer_duration: -1 }, /from 0/],
    ['max_batch_bytes', { max_batch_bytes: 2 ** 40 }, /from 1024/],
    ['retry.jitter', { retry: { jitter: 2 } }, /from 0 to 1/],
    ['retry.tries', { retry: { tries: 2 } }, /no option|not an option/],
    ['retry.retry_on[0]', { retry: { retry_on: [5] } }, /string/],
    ['isolation', { isolation: 'on' }, /bisect, off/],
    ['call_timeout_ms', { call_timeout_ms: 0 }, /from 1/],
    ['max_replicas', { min_replicas: 3, max_replicas: 2 }, /min_replicas \(3\)/],
    ['resources.gpus', { resources: { gpus: 1 } }, /cpu, memory_bytes, gpu/],
    ['resources.cpu', { resources: { cpu: 'two' } }, /number/],
    ['environment.steps[0]', { environment: { steps: [{ run: 'a', pip_install: ['b'] }] } }, /exactly one/],
    ['environment.env.A=B', { environment: { env: { 'A=B': 'c' } } }, /name/],
    ['environment.env.A', { environment: { env: { A: 5 } } }, /string/],
    [
      'environment.env',
      { environment: { env: Object.fromEntries([...'ABCDE'].map((name) => [name, 'x'.repeat(60_000)])) } },
      /"300005 bytes"; give at most 262144 bytes in all/,
    ],
    ['source', { source: [] }, /handler/],
    ['source[0].path', { source: [{ path: '/etc/passwd', content: '' }] }, /relative/],
    ['source[0].path', { source: [{ path: 'a/../../b', content: '' }] }, /relative/],
    ['source[0].path', { source: [{ path: 'a\\b', content: '' }] }, /relative/],
    ['source[1].path', { source: [...base.source, ...base.source] }, /no other/],
    ['source[0].content', { source: [{ path: 'embed.py', content: 'not base64!' }] }, /base64/],
    ['max_batch_size', { max_batch_size: 5 }, /max_batching_size/],
  ])('with a wrong %s is refused by name', (field, more, detail) => {
    const error = refusal(more);
    expect([error.code, error.extra.field]).toEqual(['invalid_function', field]);
    expect(error.message).toMatch(detail);
  });

  it.each([null, 5, [], 'spec'])('that is %j is refused', (value) => {
    expect(() => compileSpec(value)).toThrow(/object/);
  });

  it('is not fooled by inherited members', () => {
    expect(() => compileSpec(Object.create(base))).toThrow(SluiceError);
    expect(refusal(JSON.parse('{"__proto__":{"x":1}}')).extra.field).toBe('__proto__');
  });

  it('takes a part of the limits on top of what holds', () => {
    const now = { sizeRows: 25, durationMs: 1000, bytesMax: 2048 };
    expect(updatedBatching(now, { max_batching_size: 50 })).toEqual({ ...now, sizeRows: 50 });
    expect(updatedBatching(now, { max_batching_size: null, max_buffer_duration: null }).sizeRows).toBeNull();
    expect(() => updatedBatching(now, { retries: 1 })).toThrow(/max_batching_size/);
  });
});
