/** The member `engine` of a spec: checked to the last member, there and back, and no change for specs without it. */
import { describe, expect, it } from 'vitest';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { digestOf } from '../../../shared/store/spec-digest.ts';
import { compileSpec, isContained, presentSpec } from '../../../shared/wire/spec.ts';

const ENGINE = {
  project: 'p',
  name: 'triton',
  version: '24.10',
  protocol: 'oip-v2',
  command: ['serve', '--port', '{port}', ''],
  image: 'registry/triton:24',
  port: 8000,
  base_path: '/v2/models/house-1',
  probe: {
    path: '/v2/models/house-1/ready?full=1',
    port: 8001,
    initial_delay_ms: 0,
    timeout_ms: 1000,
    period_ms: 10_000,
    success_threshold: 1,
    failure_threshold: 3,
  },
  model_id: 'house-1',
  task_type: null,
  env: { A: '1' },
};
const SPEC = {
  name: 'model.house',
  runtime: 'http',
  input_mode: 'table',
  inputs: [{ name: 'x', type: 'float64' }],
  output: { type: 'float64' },
  engine: ENGINE,
};

const refusal = (spec: object): SluiceError => {
  try {
    compileSpec(spec);
  } catch (error) {
    if (error instanceof SluiceError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
};

describe('a spec with an engine', () => {
  it('comes back as it went', () => {
    expect(presentSpec(compileSpec(SPEC)).engine).toEqual(ENGINE);
    const engine = { ...ENGINE, output: 'price' };
    expect(presentSpec(compileSpec({ ...SPEC, engine })).engine).toEqual(engine);
  });

  it('has the defaults of Kubernetes for what its probe leaves out', () => {
    const probe = { path: '/ready' };
    const { engine } = compileSpec({ ...SPEC, engine: { ...ENGINE, port: null, base_path: '', probe } });
    expect(engine).toMatchObject({
      port: 8080,
      probe: {
        port: null,
        initialDelayMs: 0,
        timeoutMs: 1000,
        periodMs: 10_000,
        successThreshold: 1,
        failureThreshold: 3,
      },
    });
  });

  it('has batches of any size in every back end: the limit of messages is that of gRPC', () => {
    const spec = compileSpec({ ...SPEC, backend: 'container', max_batch_bytes: 2 ** 28 });
    expect(spec.batching.bytesMax).toBe(2 ** 28);
    expect(isContained(spec)).toBe(false);
    expect(isContained({ backend: 'container' })).toBe(true);
  });

  it.each([
    ['engine', undefined],
    ['engine', { ...ENGINE, more: 1 }, 'engine.more'],
    ['engine.protocol', { ...ENGINE, protocol: 'grpc' }],
    ['engine.command', { ...ENGINE, command: [] }],
    ['engine.command', { ...ENGINE, command: ['', 'x'] }],
    ['engine.command[0]', { ...ENGINE, command: ['a\0b'] }],
    ['engine.command', { ...ENGINE, command: null }],
    ['engine.image', { ...ENGINE, image: '-v /:/host' }],
    ['engine.port', { ...ENGINE, port: 0 }],
    ['engine.port', { ...ENGINE, port: 65_536 }],
    ['engine.base_path', { ...ENGINE, base_path: 'http://metadata/' }],
    ['engine.base_path', { ...ENGINE, base_path: '//metadata' }],
    ['engine.base_path', { ...ENGINE, base_path: '/a/../b' }],
    ['engine.base_path', { ...ENGINE, base_path: '/a/' }],
    ['engine.base_path', { ...ENGINE, base_path: '/a b' }],
    ['engine.base_path', { ...ENGINE, base_path: '/a\r\nx: 1' }],
    ['engine.probe', { ...ENGINE, probe: null }],
    ['engine.probe.path', { ...ENGINE, probe: { path: '//elsewhere/ready' } }],
    ['engine.probe.path', { ...ENGINE, probe: { path: 'http://elsewhere/ready' } }],
    ['engine.probe.path', { ...ENGINE, probe: { path: '/\\elsewhere' } }],
    ['engine.probe.period_ms', { ...ENGINE, probe: { path: '/', period_ms: 0 } }],
    ['engine.probe.failure_threshold', { ...ENGINE, probe: { path: '/', failure_threshold: 0 } }],
    ['engine.model_id', { ...ENGINE, model_id: '' }],
    ['engine.env', { ...ENGINE, env: [] }],
    ['engine.env.A=B', { ...ENGINE, env: { 'A=B': '1' } }],
    ['engine.env.A', { ...ENGINE, env: { A: 1 } }],
  ])('is refused by the name of the member: %s, %o', (field, engine, named = field) => {
    const error = refusal({ ...SPEC, engine });
    expect(error.code).toBe('invalid_function');
    expect(error.extra.field).toBe(named);
  });

  it('goes with its runtime, and with a back end that can run it', () => {
    const image = { ...ENGINE, command: null };
    expect(compileSpec({ ...SPEC, engine: image, backend: 'kubernetes' }).backend).toBe('kubernetes');
    expect(refusal({ ...SPEC, engine: { ...ENGINE, image: null }, backend: 'container' }).extra.field).toBe(
      'engine.image',
    );
    const plain = {
      ...SPEC,
      runtime: 'node',
      handler: { file: 'f.mjs', attribute: 'f' },
      source: [{ path: 'f.mjs', content: '' }],
    };
    expect(refusal(plain).extra.field).toBe('engine');
  });

  it('changes nothing of the digest of one without', () => {
    const spec = compileSpec({
      name: 'f',
      runtime: 'node',
      handler: { file: 'f.mjs', attribute: 'f' },
      inputs: [{ name: 'x', type: 'int64' }],
      output: { type: 'int64' },
      source: [{ path: 'f.mjs', content: '' }],
    });
    expect(spec).not.toHaveProperty('engine');
    expect(digestOf({ ...spec, engine: undefined } as never)).toBe(digestOf(spec));
    // As it was before there were engines.
    expect(digestOf(spec)).toBe('ea2061d9534d');
  });
});
