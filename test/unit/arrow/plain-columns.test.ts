import { describe, expect, test } from 'vitest';
import {
  readStream,
  resultArrow,
  resultJson,
  rowsToStream,
  streamToColumns,
} from '../../../shared/arrow/index.ts';
import type { FieldJson, TypeJson } from '../../../shared/domain/function.ts';

const field = (name: string, type: TypeJson, nullable = true): FieldJson => ({ name, type, nullable });
const types = (bytes: Uint8Array): TypeJson[] => readStream(bytes).fields.map((f) => f.type);

describe('columns without fields', () => {
  test('typed arrays keep their type and their bytes', () => {
    const columns = {
      a: Float32Array.of(1, 2),
      b: BigInt64Array.of(1n, -(2n ** 62n)),
      c: Uint8Array.of(0, 255),
      d: BigUint64Array.of(0n, 2n ** 64n - 1n),
    };
    const bytes = rowsToStream(columns);
    expect(types(bytes)).toEqual(['float32', 'int64', 'uint8', 'uint64']);
    expect(streamToColumns(bytes)).toEqual({
      a: columns.a,
      b: [1, -(2n ** 62n)],
      c: columns.c,
      d: [0, 2n ** 64n - 1n],
    });
  });

  test('plain values are typed by kind', () => {
    const when = new Date('2026-05-06T07:08:09.010Z');
    const columns = {
      int: [1, null],
      float: [1, 0.5],
      big: [2n ** 60n, undefined],
      text: ['a', null],
      bytes: [Uint8Array.of(1, 2), null],
      when: [when, null],
      vector: [Float32Array.of(1, 2), Float32Array.of()],
      struct: [
        { b: 1, a: ['x'] },
        { a: null, b: null },
      ],
      nothing: [null, undefined],
    };
    const bytes = rowsToStream(columns);
    expect(types(bytes)).toEqual([
      'int64',
      'float64',
      'int64',
      'utf8',
      'binary',
      { timestamp: 'ms', tz: 'UTC' },
      { list: field('item', 'float32') },
      { struct: [field('a', { list: field('item', 'utf8') }), field('b', 'int64')] },
      'null',
    ]);
    expect(streamToColumns(bytes)).toEqual({
      ...columns,
      float: Float64Array.of(1, 0.5),
      big: [2n ** 60n, null],
      struct: [
        { a: ['x'], b: 1 },
        { a: null, b: null },
      ],
      nothing: [null, null],
    });
  });

  test('what does not fit is named', () => {
    const int8 = [field('x', 'int8')];
    expect(() => rowsToStream({ x: [1, 300] }, int8)).toThrow('column "x", row 1: is 300, expected int8');
    expect(() => rowsToStream({}, int8)).toThrow('column "x" is missing');
    expect(() => rowsToStream({ x: [1], y: [1, 2] })).toThrow('column "y" has 2 rows, column "x" has 1');
    const small: TypeJson = { dictionary: 'int32', index: 'int8', ordered: false };
    const numbers = Array.from({ length: 129 }, (_, i) => i);
    expect(() => rowsToStream({ x: numbers }, [field('x', small)])).toThrow(
      '129 distinct values; a dictionary with int8',
    );
    expect(streamToColumns(rowsToStream({ x: numbers.slice(1) }, [field('x', small)])).x).toEqual(
      numbers.slice(1),
    );
  });
});

describe('results', () => {
  const part = (bytes: Uint8Array, count: number) =>
    ({ state: 'ok', from: 0, count, output: { bytes }, outputRow: 0 }) as const;

  test('as JSON follow the rules of the interface', () => {
    const texts = (type: TypeJson, values: unknown[]): string =>
      resultJson([part(rowsToStream({ result: values }, [field('result', type)]), values.length)], {
        type,
        nullable: true,
      }).values;
    expect(texts('float32', [0.5, Number.NaN, Infinity, null])).toBe('0.5,null,null,null');
    expect(texts({ list: field('item', 'float64') }, [[1, Number.NaN, -Infinity, 1e300]])).toBe(
      '[1,null,null,1e+300]',
    );
    expect(texts('int64', ['9223372036854775807', -5, 2 ** 53 - 1])).toBe(
      '9223372036854775807,-5,9007199254740991',
    );
    expect(texts('uint64', ['18446744073709551615'])).toBe('18446744073709551615');
    expect(texts('binary', [Uint8Array.of(0, 255), ''])).toBe('"AP8=",""');
    expect(texts('json', [{ a: [1] }, 'x', null])).toBe('{"a":[1]},"x",null');
    expect(texts({ timestamp: 'us', tz: 'UTC' }, ['1969-12-31T23:59:59.000001Z'])).toBe(
      '"1969-12-31T23:59:59.000001Z"',
    );
    expect(texts({ timestamp: 's', tz: null }, ['2026-01-02T03:04:05'])).toBe('"2026-01-02T03:04:05"');
    expect(texts({ timestamp: 's', tz: null }, [2n ** 63n - 1n])).toBe('"9223372036854775807"');
    expect(texts('date32', ['2026-02-28', -1])).toBe('"2026-02-28","1969-12-31"');
    expect(texts({ time: 'ms' }, ['01:02:03.004'])).toBe('"01:02:03.004"');
    expect(texts({ duration: 'ns' }, ['9007199254740993'])).toBe('9007199254740993');
    expect(texts({ decimal: [10, 3], bits: 128 }, ['-0.5', 12])).toBe('"-0.500","12.000"');
    expect(texts({ map: [field('key', 'int8', false), field('value', 'utf8')] }, [[[1, 'a"']]])).toBe(
      '{"1":"a\\""}',
    );
    expect(texts({ struct: [field('a"', 'bool')] }, [{ 'a"': true }, null])).toBe('{"a\\"":true},null');
    expect(texts({ dictionary: 'utf8', index: 'uint8', ordered: false }, ['x', null, 'x'])).toBe(
      '"x",null,"x"',
    );
  });

  test('that are all missing still are a stream, in batches of bounded size', () => {
    const type: TypeJson = { fixed_size_list: field('item', 'float64'), size: 1000 };
    const error = { code: 'handler_error', message: 'x'.repeat(1000) };
    const parts = [{ state: 'failed', from: 0, count: 5000, error } as const];
    let largest = 0;
    const chunks: Uint8Array[] = [];
    for (const chunk of resultArrow(parts, { type, nullable: true })) {
      largest = Math.max(largest, chunk.length);
      chunks.push(chunk);
    }
    const stream = readStream(Buffer.concat(chunks));
    expect([stream.rows, stream.batches.length > 1, largest < 5_000_000]).toEqual([5000, true, true]);
    expect(streamToColumns(stream.bytes).error?.[4999]).toBe(JSON.stringify(error));
  });

  test('too long for JSON are refused with the way out', () => {
    const type: TypeJson = { dictionary: 'utf8', index: 'int32', ordered: false };
    const bytes = rowsToStream({ result: new Array(300).fill('x'.repeat(1_000_000)) }, [
      field('result', type),
    ]);
    expect(() => resultJson([part(bytes, 300)], { type, nullable: true })).toThrow(
      'as JSON; accept application/vnd.apache.arrow',
    );
  });

  test('list every run of rows without an answer', () => {
    const states = ['cancelled', 'expired', 'pending'] as const;
    const parts = states.map((state, i) => ({ state, from: i * 2, count: 2 }));
    const { values, errors } = resultJson(parts, { type: 'int8', nullable: true });
    expect(values).toBe('null,null,null,null,null,null');
    expect(errors.map(({ from, count, code }) => [from, count, code])).toEqual([
      [0, 2, 'row_cancelled'],
      [2, 2, 'row_expired'],
      [4, 2, 'row_unfinished'],
    ]);
    expect(resultJson([], { type: 'int8', nullable: true })).toEqual({ values: '', errors: [] });
  });
});
