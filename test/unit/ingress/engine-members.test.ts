/** Every member of an engine's registration that somebody may get wrong. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ENGINE } from '../../support/engine-registration.ts';
import { type Rig, startRig } from './rig.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
});
afterAll(() => rig.stop());

const create = (more: object = {}) => rig.post('/v1/engines', { ...ENGINE, ...more });
let names = 0;
const fresh = () => {
  names += 1;
  return `engine-${names}`;
};

describe('a member that cannot be', () => {
  const image = { container_image_cpu: 'registry/onnx:1', command: null };
  const many = (count: number) => Array.from({ length: count }, (_, i) => `w${i}`);
  const variable = (more: object) => ({ predictor_env_schema: [{ name: 'A', ...more }] });
  it.each([
    ['no image and no command', 'container_image_cpu', { command: null }],
    ['an image that is none', 'container_image_cpu', { container_image_cpu: '-v /:/host' }],
    ['an image with a line break', 'container_image_gpu', { container_image_gpu: 'a\nb' }],
    ['several GPUs without an image for GPUs', 'supports_multi_gpu', { ...image, supports_multi_gpu: true }],
    ['a project with a slash', 'project', { project: 'a/b' }],
    ['a name that leads upwards', 'name', { name: '..' }],
    ['a name of 101 letters', 'name', { name: 'a'.repeat(101) }],
    ['no version', 'version', { version: null }],
    ['a version that is a number', 'version', { version: 1 }],
    ['a version with a slash', 'version', { version: '1/2' }],
    ['the version default', 'version', { version: 'default' }],
    ['is_default as a text', 'is_default', { is_default: 'yes' }],
    ['an empty command', 'command', { command: [] }],
    ['a command that is a text', 'command', { command: 'python3 server.py' }],
    ['a command with NUL', 'command[1]', { command: ['a', 'b\0c'] }],
    ['a command of 129 words', 'command', { command: many(129) }],
    ['a word of 65,537 letters', 'entrypoint[0]', { entrypoint: ['a'.repeat(65_537)] }],
    ['a command of more than 128 KiB', 'command', { command: ['a', ...Array(9).fill('ü'.repeat(8192))] }],
    ['variables of more than 128 KiB', 'env', { env: { A: 'ü'.repeat(60_000), B: 'ü'.repeat(6000) } }],
    ['the port 0', 'port', { port: 0 }],
    ['the port 65,536', 'readiness_probe.port', { readiness_probe: { port: 65_536 } }],
    ['a port with a name', 'readiness_probe.port', { readiness_probe: { port: 'http' } }],
    [
      'a probe that waits before it began',
      'readiness_probe.initial_delay_seconds',
      { readiness_probe: { initial_delay_seconds: -1 } },
    ],
    [
      'a probe without a period',
      'readiness_probe.period_seconds',
      { readiness_probe: { period_seconds: 0 } },
    ],
    [
      'a probe that waits for ever',
      'readiness_probe.timeout_seconds',
      { readiness_probe: { timeout_seconds: 1e9 } },
    ],
    [
      'a probe that never has enough',
      'readiness_probe.success_threshold',
      { readiness_probe: { success_threshold: 0 } },
    ],
    ['half a failure', 'readiness_probe.failure_threshold', { readiness_probe: { failure_threshold: 1.5 } }],
    ['a probe with a header', 'readiness_probe.httpHeaders', { readiness_probe: { httpHeaders: [] } }],
    [
      'a probe of another host',
      'readiness_probe.path',
      { readiness_probe: { path: 'http://169.254.169.254/' } },
    ],
    ['a probe with two slashes', 'readiness_probe.path', { readiness_probe: { path: '//169.254.169.254/' } }],
    [
      'a base URL of another host',
      'container_root_relative_base_url',
      { container_root_relative_base_url: 'http://a/b' },
    ],
    [
      'a base URL that is relative',
      'container_root_relative_base_url',
      { container_root_relative_base_url: 'v2' },
    ],
    [
      'a base URL with two slashes',
      'container_root_relative_base_url',
      { container_root_relative_base_url: '//a' },
    ],
    [
      'a base URL that leads upwards',
      'container_root_relative_base_url',
      { container_root_relative_base_url: '/a/../b' },
    ],
    [
      'a base URL that leads upwards in disguise',
      'container_root_relative_base_url',
      { container_root_relative_base_url: '/a/%2e%2e/b' },
    ],
    [
      'a base URL with a query',
      'container_root_relative_base_url',
      { container_root_relative_base_url: '/a?b=c' },
    ],
    [
      'a base URL with a backslash',
      'container_root_relative_base_url',
      { container_root_relative_base_url: '/\\a' },
    ],
    [
      'a base URL with a line break',
      'container_root_relative_base_url',
      { container_root_relative_base_url: '/a\r\nHost: b' },
    ],
    [
      'another placeholder',
      'container_root_relative_base_url',
      { container_root_relative_base_url: '/{model_name}' },
    ],
    [
      'a base URL of 201 letters',
      'container_root_relative_base_url',
      { container_root_relative_base_url: `/${'a'.repeat(200)}` },
    ],
    ['a variable of ours', 'env.SLUICE_MODEL_ID', { env: { SLUICE_MODEL_ID: 'x' } }],
    ['a twin of ours', 'env.CHARIOT_TASK_TYPE', { env: { CHARIOT_TASK_TYPE: 'x' } }],
    ['the port as a variable', 'env.PORT', { env: { PORT: '1' } }],
    ['the devices as a variable', 'env.CUDA_VISIBLE_DEVICES', { env: { CUDA_VISIBLE_DEVICES: '0' } }],
    ['a variable with an equals sign', 'env.A=B', { env: { 'A=B': 'x' } }],
    ['a variable that is a number', 'env.A', { env: { A: 1 } }],
    ['a variable with NUL', 'env.A', { env: { A: 'a\0b' } }],
    ['a list of variables', 'env', { env: ['A=b'] }],
    ['501 variables', 'env', { env: Object.fromEntries(many(501).map((name) => [name, ''])) }],
    ['a reserved name in the schema', 'predictor_env_schema[0].name', variable({ name: 'LD_PRELOAD' })],
    ['the path of Python in the schema', 'predictor_env_schema[0].name', variable({ name: 'PYTHONPATH' })],
    ['a name of a digit in the schema', 'predictor_env_schema[0].name', variable({ name: '1A' })],
    [
      'a name twice in the schema',
      'predictor_env_schema[1].name',
      { predictor_env_schema: [{ name: 'A' }, { name: 'A' }] },
    ],
    ['a type that there is not', 'predictor_env_schema[0].type', variable({ type: 'double' })],
    [
      'a default of another type',
      'predictor_env_schema[0].default_value',
      variable({ type: 'int', default_value: 'many' }),
    ],
    ['a default that is an object', 'predictor_env_schema[0].default_value', variable({ default_value: {} })],
    [
      'a text for people that is a number',
      'predictor_env_schema[0].display_text',
      variable({ display_text: 1 }),
    ],
    ['a schema that is an object', 'predictor_env_schema', { predictor_env_schema: { A: 'int' } }],
    [
      'an enforcement that is a text',
      'enforce_predictor_env_schema',
      { enforce_predictor_env_schema: 'true' },
    ],
    ['a protocol that there is not', 'inference_protocol', { inference_protocol: 'grpc' }],
    ['a member that there is not', 'image', { image: 'a' }],
  ])('%s is refused by its name', async (_, field, more) => {
    const { status, json } = await create({ name: fresh(), ...more });
    expect({ status, code: json.code, field: json.field }).toEqual({
      status: 422,
      code: 'invalid_engine',
      field,
    });
  });

  it('whatever a body holds, it is taken, or refused as the catalogue says', async () => {
    const member = fc.constantFrom(
      ...['project', 'name', 'version', 'env', 'command', 'entrypoint', 'readiness_probe', 'port'],
      ...['predictor_env_schema', 'container_root_relative_base_url', 'container_image_cpu', 'is_default'],
    );
    await fc.assert(
      fc.asyncProperty(fc.dictionary(member, fc.jsonValue({ maxDepth: 3 })), async (more) => {
        const { status, json } = await create({ name: fresh(), ...more });
        if (status !== 201 && status !== 200) expect([status, json.code]).toEqual([422, 'invalid_engine']);
      }),
      { numRuns: 150 },
    );
  });
});
