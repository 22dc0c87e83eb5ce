import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  exactJson,
  isDoublePrint,
  isExactNumber,
  isInt64,
  jsonWithBigInts,
  wideInteger,
} from '../../../shared/arrow/exact-json.ts';
import { exactNumbersFor } from '../../../shared/arrow/exact-values.ts';
import {
  buildInput,
  type JsonBody,
  jsonToPayload,
  resultJson,
  rowsToStream,
  streamToColumns,
} from '../../../shared/arrow/index.ts';
import type { FieldJson, TypeJson } from '../../../shared/domain/function.ts';

const field = (type: TypeJson): FieldJson => ({ name: 'x', type, nullable: true });
const list = (type: TypeJson): TypeJson => ({ list: { name: 'item', type, nullable: true } });
const DECIMAL: TypeJson = { decimal: [38, 2], bits: 128 };

/** What the server's JSON has of the column after a call with this text for its values. */
const travelled = (values: string, inputs: readonly FieldJson[] | null): string => {
  const { value, hasExact } = exactJson(`{"columns":{"x":[${values}]}}`, exactNumbersFor(inputs));
  const { payload, rows } = jsonToPayload(value as JsonBody, inputs, hasExact);
  const [stream] = buildInput([{ payload, from: 0, count: rows }], inputs);
  const type = inputs?.[0]?.type ?? 'int64';
  const output = { type, nullable: true };
  return resultJson(
    [{ state: 'ok', from: 0, count: rows, output: { bytes: stream!.bytes }, outputRow: 0 } as never],
    output,
  ).values;
};

describe('numbers of a JSON body that no double holds', () => {
  it.each<[string, TypeJson, string]>([
    [
      '12345678901234567890.12,90071992547409.93,1.5',
      DECIMAL,
      '"12345678901234567890.12","90071992547409.93","1.50"',
    ],
    ['[12345678901234567890.12,null]', list(DECIMAL), '["12345678901234567890.12",null]'],
    ['9007199254740993,-9007199254740993,1', 'int64', '9007199254740993,-9007199254740993,1'],
    ['18446744073709551615', 'uint64', '18446744073709551615'],
    ['1700000000123456789', { timestamp: 'ns', tz: null }, '"2023-11-14T22:13:20.123456789"'],
    [
      '{"id":9007199254740993,"v":[12345678901234567890.12]},1',
      'json',
      '{"id":9007199254740993,"v":[12345678901234567890.12]},1',
    ],
    [
      '{"a":9007199254740993}',
      { struct: [{ name: 'a', type: 'int64', nullable: false }] },
      '{"a":9007199254740993}',
    ],
    ['9007199254740993', 'float64', '9007199254740992'],
    [
      '[0.30000000000000004,0.1234567890123456789]',
      list('float64'),
      '[0.30000000000000004,0.12345678901234568]',
    ],
  ])('come as %s to %j', (values, type, expected) => {
    expect(travelled(values, [field(type)])).toBe(expected);
  });

  it('are int64 where the type is open, and no other integer beyond it', () => {
    expect(travelled('9007199254740993,1', null)).toBe('9007199254740993,1');
    expect(() => travelled('12345678901234567890123', null)).toThrow(
      'column "x", row 0: 12345678901234567890123 is beyond int64, the widest integer that is inferred; send it as a string, or the columns as Arrow',
    );
  });

  it.each<[string, TypeJson, string]>([
    ['9223372036854775808', 'int64', 'column "x", row 0: is 9223372036854775808, expected int64'],
    [
      '1.2345678901234567891',
      DECIMAL,
      'column "x", row 0: is 1.2345678901234567891, expected decimal128(38, 2)',
    ],
    ['9007199254740993', 'utf8', 'is "9007199254740993"'],
  ])('are refused with their digits: %s as %j', (values, type, message) => {
    if (type === 'utf8') expect(exactNumbersFor([field(type)])).toBe('none');
    else expect(() => travelled(values, [field(type)])).toThrow(message);
  });

  it('cost inputs of floats and texts no look', () => {
    expect(exactNumbersFor([field(list('float32')), field('utf8')])).toBe('none');
    expect(exactNumbersFor([field(list('float32')), field('int64')])).toBe('integers');
    expect(exactNumbersFor([field({ struct: [field(list(DECIMAL))] })])).toBe('all');
  });
});

describe('exact JSON', () => {
  it('keeps every number that a double changes, and no other', () => {
    const digits = fc.stringMatching(/^(0|[1-9][0-9]{0,24})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,2})?$/);
    fc.assert(
      fc.property(digits, fc.boolean(), fc.string(), (source, isNegative, text) => {
        const number = `${isNegative ? '-' : ''}${source}`;
        const [one, two] = exactJson(`[${JSON.stringify(text)} ,${number}]`).value as unknown[];
        expect(one).toBe(text);
        expect(JSON.stringify(isExactNumber(two) ? two : null)).toBe(isExactNumber(two) ? number : 'null');
        if (/^\d+$/.test(source)) expect(isExactNumber(two)).toBe(!Number.isSafeInteger(Number(number)));
      }),
    );
    fc.assert(
      fc.property(fc.double({ noDefaultInfinity: true, noNaN: true }), (value) => {
        if (!Number.isInteger(value))
          expect(exactJson(`{"a":${value}}`)).toEqual({ value: { a: value }, hasExact: false });
      }),
    );
  });

  it('knows a double that is printed with more digits than it takes', () => {
    expect(['0.10000000000000001', '1e20', '100000000000000000000', '0.1'].map(isDoublePrint)).toEqual([
      true,
      true,
      true,
      true,
    ]);
    expect(['90071992547409.93', '12345678901234567890.12', '9007199254740993'].map(isDoublePrint)).toEqual([
      false,
      false,
      false,
    ]);
  });

  it('has bigints for code, which json columns write again', () => {
    const value = jsonWithBigInts('{"id":9007199254740993,"n":1,"f":1.2345678901234567890}');
    expect(value).toEqual({ id: 9007199254740993n, n: 1, f: 1.2345678901234567 });
    const stream = rowsToStream({ x: [value] }, [field('json')]);
    expect(streamToColumns(stream).x).toEqual([value]);
  });
});

it('reads no integer of more digits than any type takes', () => {
  const many = '1'.repeat(31_000_000);
  expect([wideInteger(many), wideInteger(`-${many}`), isInt64(many)]).toEqual([null, null, false]);
  expect([wideInteger(`-${'0'.repeat(100)}5`), wideInteger('-9223372036854775808')]).toEqual([
    -5n,
    -(2n ** 63n),
  ]);
  expect(isInt64('9223372036854775807') && !isInt64('9223372036854775808')).toBe(true);
});
