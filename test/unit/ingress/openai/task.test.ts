/** The member `task` of a spec: what it takes, and what it must not change of functions without one. */
import { describe, expect, it } from 'vitest';
import type { SluiceError } from '../../../../shared/errors/sluice-error.ts';
import { digestOf } from '../../../../shared/store/spec-digest.ts';
import { embeddingEntry, parseEmbeddingRequest } from '../../../../shared/wire/openai/embedding.ts';
import { openaiError, openaiStatus, rowFailure } from '../../../../shared/wire/openai/openai-error.ts';
import { compileSpec, presentSpec } from '../../../../shared/wire/spec.ts';

const text = { name: 'text', type: 'utf8', nullable: false };
const item = (type: unknown) => ({ name: 'item', type, nullable: false });
const base = {
  name: 'embed',
  runtime: 'python',
  handler: { file: 'embed.py', attribute: 'embed' },
  inputs: [text],
  output: { type: 'float64', nullable: true },
  source: [{ path: 'embed.py', content: 'YQ==' }],
};
const vectors = { type: { list: item('float32') }, nullable: false };
const texts = { type: 'utf8', nullable: true };
const message = {
  struct: [
    { ...item('utf8'), name: 'role' },
    { ...item('utf8'), name: 'content' },
  ],
};

const refusal = (work: () => unknown): SluiceError => {
  try {
    work();
  } catch (error) {
    return error as SluiceError;
  }
  throw new Error('nothing was refused');
};

describe('a spec', () => {
  it('without a task has the digest that it had before there were tasks', () => {
    expect(digestOf(compileSpec(base))).toBe('edccf42c577f');
    expect(digestOf(compileSpec({ ...base, task: null }))).toBe('edccf42c577f');
    expect(presentSpec(compileSpec(base))).not.toHaveProperty('task');
  });

  it.each([
    ['embedding', [text], vectors],
    [
      'embedding',
      [{ ...text, type: 'large_utf8' }],
      { ...vectors, type: { fixed_size_list: item('float64'), size: 3 } },
    ],
    [
      'embedding',
      [{ ...text, type: { list: item('int32') } }],
      { ...vectors, type: { large_list: item('float16') } },
    ],
    ['completion', [text], texts],
    ['completion', [text, { name: 'max_tokens', type: 'int64', nullable: true }], texts],
    ['completion', [{ ...text, type: 'json' }], texts],
    ['completion', [{ ...text, type: { list: item(message) } }], texts],
  ])('with the task %s is shown as it was sent', (task, inputs, output) => {
    const spec = compileSpec({ ...base, inputs, output, task });
    expect(presentSpec(spec)).toMatchObject({ task });
    expect(digestOf(spec)).not.toBe(digestOf(compileSpec({ ...base, inputs, output })));
    expect(digestOf(compileSpec({ ...presentSpec(spec), source: base.source }))).toBe(digestOf(spec));
  });

  it.each([
    ['task', { task: 'ranking', output: vectors }],
    ['inputs', { task: 'embedding', output: vectors, inputs: [text, { ...text, name: 'more' }] }],
    ['inputs', { task: 'embedding', output: vectors, inputs: [{ ...text, type: 'int64' }] }],
    ['inputs', { task: 'embedding', output: vectors, inputs: null, input_mode: 'table' }],
    ['output.type', { task: 'embedding', output: { type: { list: item('int64') } } }],
    ['output.type', { task: 'embedding' }],
    ['inputs', { task: 'completion', output: texts, inputs: [text, { ...text, name: 'max_tokens' }] }],
    [
      'inputs',
      { task: 'completion', output: texts, inputs: [text, { ...text, name: 'style', nullable: true }] },
    ],
    ['output.type', { task: 'completion', output: vectors }],
  ])('is refused at %s for %o', (field, more) => {
    expect(refusal(() => compileSpec({ ...base, ...more }))).toMatchObject({
      code: 'invalid_function',
      extra: { field },
    });
  });
});

describe('a vector', () => {
  const asked = { isBase64: false, dimensions: null };

  it('of zeros is cut without a division by nothing', () => {
    const entry = JSON.parse(embeddingEntry({ ...asked, dimensions: 2 }, 0, new Float32Array(4)));
    expect(entry.embedding).toEqual([0, 0]);
  });

  it('of a hundred thousand components is cut to length one', () => {
    const entry = JSON.parse(
      embeddingEntry({ ...asked, dimensions: 90_000 }, 0, new Float32Array(100_000).fill(3)),
    );
    expect(Math.hypot(...entry.embedding.slice(0, 1000)) * Math.sqrt(90)).toBeCloseTo(1, 4);
  });

  it.each([
    ['null', null],
    ['NaN', Float32Array.of(Number.NaN)],
    ['infinite', Float64Array.of(-Infinity)],
    ['null', [1, null] as never],
  ])('that is, or has, what JSON cannot say is refused: %s', (what, vector) => {
    const error = refusal(() => embeddingEntry(asked, 3, vector));
    expect([error.code, error.extra.field]).toEqual(['handler_output_invalid', 'input[3]']);
    expect(error.message).toContain(what);
  });

  it('of wide floats is float32 in base64', () => {
    const entry = JSON.parse(embeddingEntry({ ...asked, isBase64: true }, 0, Float64Array.of(0.1, -2)));
    const bytes = Buffer.from(entry.embedding, 'base64');
    expect([bytes.readFloatLE(0), bytes.readFloatLE(4)]).toEqual([Math.fround(0.1), -2]);
  });
});

describe('an error', () => {
  it.each([
    ['row_error', 400, 'invalid_request_error'],
    ['handler_error', 500, 'server_error'],
    ['call_timeout', 500, 'server_error'],
    ['row_expired', 504, 'server_error'],
  ])('of a row, %s, has the status %i', (code, status, type) => {
    const error = rowFailure({ code, message: 'it broke', kind: 'Broken' }, 'input[2]');
    expect(openaiStatus(error)).toBe(status);
    expect(openaiError(error)).toEqual({
      error: { message: 'Broken: it broke', type, param: 'input[2]', code },
    });
  });

  it('shows little of what it refuses', () => {
    const error = refusal(() =>
      parseEmbeddingRequest({ model: 'm', input: 'x', encoding_format: 'y'.repeat(1e6) }),
    );
    expect(error.message.length).toBeLessThan(200);
  });
});
