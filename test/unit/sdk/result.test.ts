import { describe, expect, it } from 'vitest';
import { decodeResult } from '../../../sdk/result.ts';
import { rowsToStream } from '../../../shared/arrow/index.ts';
import type { TypeJson } from '../../../shared/domain/function.ts';

const decoded = (values: readonly unknown[], type: TypeJson): unknown[] =>
  decodeResult(rowsToStream({ result: values }, [{ name: 'result', type, nullable: true }])).values;

const list = (type: TypeJson): TypeJson => ({ list: { name: 'item', type, nullable: true } });

describe('a result', () => {
  it('has one value a row', () => {
    expect(decoded(['a', null, 'b'], 'utf8')).toEqual(['a', null, 'b']);
    expect(decoded([1, 2], 'int32')).toEqual([1, 2]);
    expect(decoded([], 'int32')).toEqual([]);
  });

  it('has lists of numbers as typed arrays', () => {
    expect(decoded([[1, 2.5], [3]], list('float32'))).toEqual([Float32Array.of(1, 2.5), Float32Array.of(3)]);
  });

  it('has integers as numbers where they are exact, and as bigint where not', () => {
    expect(decoded([1, 2], 'int64')).toEqual([1, 2]);
    expect(decoded([1n, 9007199254740993n], 'int64')).toEqual([1, 9007199254740993n]);
  });

  it('has JSON as the value, decimals as text, timestamps as dates', () => {
    expect(decoded([{ a: [1, null] }, 'x', null], 'json')).toEqual([{ a: [1, null] }, 'x', null]);
    expect(decoded(['1.25', '-0.05'], { decimal: [10, 2], bits: 128 })).toEqual(['1.25', '-0.05']);
    const at = new Date('2026-01-02T03:04:05.000Z');
    expect(decoded([at], { timestamp: 'ms', tz: 'UTC' })).toEqual([at]);
  });

  it('has decimals as text at every depth', () => {
    const decimal: TypeJson = { decimal: [38, 2], bits: 128 };
    const struct: TypeJson = { struct: [{ name: 'a', type: decimal, nullable: true }] };
    const exact = '12345678901234567890.12';
    expect(decoded([[exact, null]], list(decimal))).toEqual([[exact, null]]);
    expect(decoded([{ a: exact }, { a: null }, null], struct)).toEqual([{ a: exact }, { a: null }, null]);
    expect(decoded([exact, null, exact], { dictionary: decimal, index: 'int32', ordered: false })).toEqual([
      exact,
      null,
      exact,
    ]);
  });

  it('has moments whose JSON is that of the server', () => {
    const json = (values: readonly unknown[], type: TypeJson): string =>
      JSON.stringify(decoded(values, type));
    const at = '2023-11-14T22:13:20.123456789';
    const [value] = decoded([at], { timestamp: 'ns', tz: null }) as Date[];
    expect(value).toBeInstanceOf(Date);
    expect(value!.getTime()).toBe(Date.parse('2023-11-14T22:13:20.123Z'));
    expect(json([at, null], { timestamp: 'ns', tz: null })).toBe(`["${at}",null]`);
    expect(json([[`${at.slice(0, -3)}Z`]], list({ timestamp: 'us', tz: 'UTC' }))).toBe(
      `[["${at.slice(0, -3)}Z"]]`,
    );
    expect(json(['2024-02-29'], 'date32')).toBe('["2024-02-29"]');
    expect(json(['2024-02-29'], 'date64')).toBe('["2024-02-29"]');
    expect(json([value], { timestamp: 'ns', tz: null })).toBe(`["${at}"]`);
  });

  it('has integers beyond 2^53 inside of JSON as bigint', () => {
    expect(decoded([{ id: 9007199254740993n, x: 0.30000000000000004 }], 'json')).toEqual([
      { id: 9007199254740993n, x: 0.30000000000000004 },
    ]);
  });

  it('has the errors by row', () => {
    const bytes = rowsToStream({ result: [1, null], error: [null, '{"code":"row_error","message":"no"}'] }, [
      { name: 'result', type: 'int32', nullable: true },
      { name: 'error', type: 'utf8', nullable: true },
    ]);
    expect(decodeResult(bytes).errors).toEqual(new Map([[1, { code: 'row_error', message: 'no' }]]));
  });
});
