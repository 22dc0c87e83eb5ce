/** The members of a spec that models bring, and what they must not change of functions without them. */
import { describe, expect, it } from 'vitest';
import type { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { digestOf } from '../../../shared/store/spec-digest.ts';
import { compileSpec, isContained, presentSpec, updatedBatching } from '../../../shared/wire/spec.ts';

const base = {
  name: 'embed',
  runtime: 'python',
  handler: { file: 'embed.py', attribute: 'embed' },
  inputs: [{ name: 'text', type: 'utf8', nullable: false }],
  output: { type: 'float64', nullable: true },
  source: [{ path: 'embed.py', content: 'YQ==' }],
};
const digest = `sha256:${'0a'.repeat(32)}`;
const file = { path: 'weights/model.bin', digest, bytes: 5 };
const model = { name: 'm', version: 1, files: [file], loader: { kind: 'x' } };
const container = {
  image: { reference: 'registry:5000/a/b@sha256:00' },
  entrypoint: ['serve', '--fast'],
  port: 9000,
  handler: 'model.handler',
  on_startup: null,
};
const { handler: _, source: __, ...bare } = base;
const boxed = { ...bare, runtime: 'container', model, container };

describe('a spec without a model', () => {
  it('has the digest that it had before there were models', () => {
    expect(digestOf(compileSpec(base))).toBe('edccf42c577f');
    const nulls = { ...base, model: null, container: null, backend: 'process' };
    expect(digestOf(compileSpec(nulls))).toBe('edccf42c577f');
  });
});

describe('a spec with a model', () => {
  it('is shown as it was sent', () => {
    const { source, ...plain } = base;
    for (const [spec, more] of [
      [boxed, {}],
      [{ ...plain, model }, { source }],
      [{ ...plain, model, backend: 'kubernetes' }, { source }],
    ] as const) {
      const compiled = compileSpec({ ...spec, ...more });
      const shown = presentSpec(compiled);
      expect(shown).toMatchObject(spec);
      expect(digestOf(compileSpec({ ...shown, ...more }))).toBe(digestOf(compiled));
    }
  });

  it('may lack handler and source as a container, whose back end and batches are those of containers', () => {
    const spec = compileSpec({ ...boxed, source: [] });
    expect([spec.source, spec.backend, isContained(spec)]).toEqual([[], 'container', true]);
    expect(spec.batching.bytesMax).toBe(16 * 2 ** 20);
    expect(() => updatedBatching(spec.batching, { max_batch_bytes: 32 * 2 ** 20 }, true)).toThrow(/32505856/);
    expect(compileSpec({ ...boxed, handler: base.handler, source: base.source }).handler).toEqual(
      base.handler,
    );
  });

  it.each(['nvidia-l4', 'nvidia-tesla-t4:1', 'h100:64', 'amd.com/mi300x:2'])(
    'may ask for the gpu %s',
    (gpu) => {
      expect(compileSpec({ ...base, resources: { gpu } }).resources.gpu).toBe(gpu);
    },
  );

  it.each([
    ['model', { model: 5 }],
    ['model.name', { model: { ...model, name: '../m' } }],
    ['model.version', { model: { ...model, version: 0 } }],
    ['model.files[0].path', { model: { ...model, files: [{ ...file, path: '/a' }] } }],
    ['model.files[0].digest', { model: { ...model, files: [{ ...file, digest: 'sha256:0' }] } }],
    ['model.files[0].bytes', { model: { ...model, files: [{ ...file, bytes: 2 ** 41 }] } }],
    ['model.files[1].path', { model: { ...model, files: [file, file] } }],
    ['model.files', { model: { ...model, files: [file, { ...file, path: 'weights' }] } }],
    ['model.loader', { model: { ...model, loader: 'x' } }],
    ['model.stage', { model: { ...model, stage: 'x' } }],
    ['container', { container: null }],
    ['container.image', { container: { ...container, image: null } }],
    ['container.image', { container: { ...container, image: {} } }],
    ['container.image.reference', { container: { ...container, image: { reference: 'a b' } } }],
    ['container.port', { container: { ...container, port: 65_536 } }],
    ['container.handler', { container: { ...container, handler: 'handler' } }],
    ['container.on_startup', { container: { ...container, on_startup: 'a b.c' } }],
    ['container.entrypoint', { container: { ...container, entrypoint: 'serve' } }],
    ['container.command', { container: { ...container, command: [] } }],
    ['backend', { backend: 'process' }],
    ['backend', { backend: 'lambda' }],
    ['max_batch_bytes', { max_batch_bytes: 32 * 2 ** 20 }],
    ['container', { ...base }],
    ['backend', { ...base, runtime: 'node', container: null, backend: 'container' }],
    ['resources.gpu', { resources: { gpu: 'l4:0' } }],
    ['resources.gpu', { resources: { gpu: 'l4:65' } }],
    ['resources.gpu', { resources: { gpu: 'l4:-1' } }],
    ['resources.gpu', { resources: { gpu: 'a b' } }],
  ])('with a wrong %s is refused by name', (field, more) => {
    let error: SluiceError | null = null;
    try {
      compileSpec({ ...boxed, ...more });
    } catch (thrown) {
      error = thrown as SluiceError;
    }
    expect([error?.code, error?.extra.field]).toEqual(['invalid_function', field]);
  });

  it('may bring as much source as is allowed, and no more', () => {
    const sourceOf = (bytes: number) => [
      { path: 'embed.py', content: Buffer.alloc(bytes).toString('base64') },
    ];
    expect(compileSpec({ ...base, source: sourceOf(64 * 2 ** 20) }).source).toHaveLength(1);
    expect(() => compileSpec({ ...base, source: sourceOf(64 * 2 ** 20 + 1) })).toThrow(
      /67108864 bytes in all/,
    );
    for (const content of ['A', 'AA=', 'A===', '====', 'AA=A', 'AA==AA==', '=', 'AAA-'])
      expect(() => compileSpec({ ...base, source: [{ path: 'embed.py', content }] })).toThrow(/base64/);
  });

  it('of ten thousand files in deep folders is checked in a moment', () => {
    const folder = `${'d'.repeat(30)}/`.repeat(31);
    const files = Array.from({ length: 10_000 }, (_, i) => ({ ...file, path: `${folder}${i}` }));
    expect(compileSpec({ ...boxed, model: { ...model, files } }).model?.files).toHaveLength(10_000);
  });
});
