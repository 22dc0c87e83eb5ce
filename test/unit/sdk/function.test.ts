import { describe, expect, expectTypeOf, it } from 'vitest';
import { FUNCTION } from '../../../sdk/function.ts';
import { defineFunction, isRowError, RowError, t } from '../../../sdk/index.ts';

const context = {} as never;
const { signal } = new AbortController();

describe('defineFunction', () => {
  it('keeps the body callable and typed', () => {
    const lengths = defineFunction(
      { name: 'lengths', inputs: { text: t.string() }, output: t.int32() },
      ({ text }) => {
        expectTypeOf(text).toEqualTypeOf<readonly string[]>();
        return text.map((one) => one.length);
      },
    );
    expect(lengths({ text: ['a', 'bb'] }, context, signal)).toEqual([1, 2]);
    const one = defineFunction(
      { name: 'one', mode: 'row', inputs: { n: t.nullable(t.int32()) }, output: t.string() },
      ({ n }) => {
        expectTypeOf(n).toEqualTypeOf<number | null>();
        return String(n);
      },
    );
    expect(one({ n: 3 }, context, signal)).toBe('3');
  });

  it('carries the spec that a deploy sends', () => {
    const fn = defineFunction(
      {
        name: 'embed',
        inputs: { text: t.string(), tags: t.list(t.string()) },
        output: t.list(t.float32()),
        maxBatchingSize: 25,
        maxBufferDuration: 2000,
        retries: { retries: 3, initialMs: 10, retryOn: ['TypeError'] },
        gpu: 'nvidia-l4',
        env: { A: 'b' },
      },
      ({ text }) => text.map(() => new Float32Array(2)),
    );
    expect(fn[FUNCTION].spec).toEqual({
      name: 'embed',
      runtime: 'node',
      input_mode: 'columns',
      inputs: [
        { name: 'text', type: 'utf8', nullable: false },
        { name: 'tags', type: { list: { name: 'item', type: 'utf8', nullable: false } }, nullable: false },
      ],
      output: { type: { list: { name: 'item', type: 'float32', nullable: false } }, nullable: false },
      max_batching_size: 25,
      max_buffer_duration: 2000,
      retry: { retries: 3, initial_ms: 10, retry_on: ['TypeError'] },
      resources: { cpu: null, memory_bytes: null, gpu: 'nvidia-l4' },
      environment: { base: null, steps: [], env: { A: 'b' } },
    });
  });

  it('refuses a name that a path cannot hold', () => {
    expect(() => defineFunction({ name: 'a/b', inputs: {}, output: t.json() }, () => [])).toThrow(
      'The name is "a/b"',
    );
  });

  it('tells row errors of any copy of the package', () => {
    expect(isRowError(new RowError('no', { kind: 'Refused' }))).toBe(true);
    expect(isRowError({ [Symbol.for('sluice.rowError')]: true })).toBe(true);
    expect(isRowError(new Error('no'))).toBe(false);
  });
});
