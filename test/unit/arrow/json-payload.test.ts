import { describe, expect, test } from 'vitest';
import { buildInput, jsonToPayload, readStream, streamToColumns } from '../../../shared/arrow/index.ts';
import type { FieldJson, TypeJson } from '../../../shared/domain/function.ts';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';

const field = (name: string, type: TypeJson, nullable = false): FieldJson => ({ name, type, nullable });
const inputs = [field('text', 'utf8'), field('n', 'int32', true)];

const refusal = (body: object, fields: readonly FieldJson[] | null = inputs): string => {
  try {
    jsonToPayload(body, fields);
    return 'accepted';
  } catch (error) {
    const { code, message } = error as SluiceError;
    return error instanceof SluiceError ? `${code}: ${message}` : String(error);
  }
};

describe('small calls', () => {
  test('rows and columns make the same canonical text', () => {
    const rows = jsonToPayload({ rows: [{ n: 1, text: 'a' }, { text: 'ü' }] }, inputs);
    const columns = jsonToPayload({ columns: { n: [1, null], text: ['a', 'ü'] } }, inputs);
    expect(rows).toEqual(columns);
    expect(rows).toEqual({
      rows: 2,
      bytes: 21,
      schemaKey: '',
      payload: { kind: 'json', text: '[["a","ü"],[1,null]]' },
    });
  });

  test('a missing nullable column is null, no rows are no rows', () => {
    expect(jsonToPayload({ columns: { text: ['a'] } }, inputs).payload).toEqual({
      kind: 'json',
      text: '[["a"],[null]]',
    });
    expect(jsonToPayload({ columns: { text: [] } }, inputs).rows).toBe(0);
    expect(jsonToPayload({ rows: [] }, inputs).rows).toBe(0);
    expect(jsonToPayload({ rows: [{}, {}] }, []).rows).toBe(2);
  });
});

test.each([
  [{}, 'invalid_request: the body needs either "columns" or "rows"'],
  [{ rows: [], columns: {} }, 'invalid_request: the body needs either "columns" or "rows"'],
  [{ columns: [] }, 'invalid_request: "columns" is [], expected an object of arrays'],
  [{ rows: {} }, 'invalid_request: "rows" is {}, expected an array of objects'],
  [{ rows: ['a'] }, 'invalid_request: row 0 is "a", expected an object'],
  [{ columns: { text: 'a' } }, 'invalid_request: column "text" is "a", expected an array'],
  [{ columns: { text: ['a'], n: [] } }, 'invalid_request: the columns differ in length: "text" 1, "n" 0'],
  [
    { columns: { text: ['a'], x: [1] } },
    'schema_mismatch: column "x" is no input of the function; its inputs are "text" utf8 not null, "n" int32',
  ],
  [
    { columns: { n: [1] } },
    'schema_mismatch: column "text" is missing; the inputs are "text" utf8 not null, "n" int32',
  ],
  [
    { rows: [{ text: 'a' }, { n: 1 }] },
    'schema_mismatch: row 1 lacks "text"; the inputs are "text" utf8 not null, "n" int32',
  ],
  [
    { rows: [{ text: 'a', y: 1 }] },
    'schema_mismatch: row 0 has "y", which is no input of the function; its inputs are "text" utf8 not null, "n" int32',
  ],
  [{ columns: { text: ['a', 7] } }, 'invalid_request: column "text", row 1: is 7, expected utf8'],
  [
    { columns: { text: ['a', null] } },
    'invalid_request: column "text", row 1: is null, expected utf8 (the column is not nullable)',
  ],
  [{ columns: { text: ['a'], n: [1.5] } }, 'invalid_request: column "n", row 0: is 1.5, expected int32'],
  [
    { columns: JSON.parse('{"__proto__": [1]}') },
    'schema_mismatch: column "__proto__" is no input of the function; its inputs are "text" utf8 not null, "n" int32',
  ],
])('%j is refused by name', (body, message) => {
  expect(refusal(body)).toBe(message);
});

const list = (type: TypeJson, nullable = true): TypeJson => ({ list: { name: 'item', type, nullable } });

test.each<[TypeJson, unknown, string]>([
  ['int8', 128, 'is 128, expected int8'],
  ['uint64', -1, 'is -1, expected uint64 (a non-negative integer; beyond 2^53 a string of digits)'],
  ['int64', 2 ** 60, 'is 1152921504606847000, expected int64 (an integer; beyond ±2^53 a string of digits)'],
  [
    'int64',
    '9223372036854775808',
    'is "9223372036854775808", expected int64 (an integer; beyond ±2^53 a string of digits)',
  ],
  ['bool', 1, 'is 1, expected bool'],
  ['float64', JSON.parse('1e999'), 'is Infinity, expected float64'],
  ['float32', 1e39, 'is 1e+39, expected float32'],
  [list('float16'), [1, 70_000], '[1] is 70000, expected float16'],
  ['binary', 'no!=', 'is "no!=", expected binary (base64, padded with =)'],
  ['binary', 'hello', 'is "hello", expected binary (base64, padded with =)'],
  ['large_binary', 'aGk', 'is "aGk", expected large_binary (base64, padded with =)'],
  ['date32', '2026-02-30', 'is "2026-02-30", expected date32 (YYYY-MM-DD)'],
  [
    { timestamp: 'ms', tz: null },
    '2026-01-01T00:00:00.1234',
    'is "2026-01-01T00:00:00.1234", expected timestamp[ms] (ISO 8601, or an integer in ms since 1970)',
  ],
  [{ time: 's' }, '24:00:00', 'is "24:00:00", expected time[s] (HH:MM:SS, or an integer in s)'],
  [
    { decimal: [5, 2], bits: 128 },
    '1234.5',
    'is "1234.5", expected decimal128(5, 2) (a string of digits that fits without loss)',
  ],
  [
    { decimal: [5, 2], bits: 128 },
    1.234,
    'is 1.234, expected decimal128(5, 2) (a string of digits that fits without loss)',
  ],
  [{ fixed_size_binary: 2 }, 'AAEC', 'is "AAEC", expected fixed_size_binary[2] (base64 of 2 bytes)'],
  [
    { fixed_size_list: { name: 'item', type: 'int8', nullable: true }, size: 2 },
    [1],
    'is [1], expected fixed_size_list<int8>[2]',
  ],
  [list('float64', false), [1, null], '[1] is null, expected float64 (the column is not nullable)'],
  [list(list('int8')), [[1], [2, 'x']], '[1][1] is "x", expected int8'],
  [{ struct: [field('a', 'utf8')] }, { a: 1 }, '.a is 1, expected utf8'],
  [
    { struct: [field('a', 'utf8')] },
    { a: 'x', b: 1 },
    'has the member "b", which struct<a: utf8 not null> lacks',
  ],
  [{ struct: [field('a', 'utf8')] }, {}, '.a is missing, expected utf8 (the column is not nullable)'],
  [
    { map: [field('key', 'utf8'), field('value', 'int8')] },
    { a: 'x' },
    'is {"a":"x"}, expected map<utf8 not null, int8 not null> (an object, or a list of [key, value])',
  ],
])('%j does not take %j', (type, value, message) => {
  expect(refusal({ columns: { x: [value] } }, [field('x', type)])).toBe(
    `invalid_request: column "x", row 0: ${message}`,
  );
});

test('JSON values of every kind, null included, pass a json column', () => {
  const fields = [field('x', 'json')];
  const values = [1, 'a', null, [1, { b: null }], { a: 1 }];
  const { payload } = jsonToPayload({ columns: { x: values } }, fields);
  const { bytes } = buildInput([{ payload, from: 0, count: 5 }], fields)[0]!;
  expect(readStream(bytes).fields).toEqual(fields);
  expect(streamToColumns(bytes).x).toEqual(values);
});

describe('what JSON can write and no reader takes as it is', () => {
  const deep = (levels: number) => JSON.parse(`${'['.repeat(levels)}${']'.repeat(levels)}`);
  const json = [field('x', 'json')];
  const text = [field('x', 'utf8')];

  test.each<[string, readonly FieldJson[] | null, unknown, string]>([
    ['depth', json, deep(257), 'json (at most 256 levels)'],
    ['depth', json, { a: deep(4000) }, 'json (at most 256 levels)'],
    ['an infinite number', json, { v: JSON.parse('1e400') }, 'json (numbers that a double holds)'],
    ['a lone surrogate', json, [{ v: 'a\ud800' }], 'json (text without lone surrogates)'],
    ['a lone surrogate', json, { '\udfff': 1 }, 'json (text without lone surrogates)'],
    ['a lone surrogate', text, '\ud800', 'utf8 (text without lone surrogates)'],
    ['a lone surrogate', null, '\ud800', 'utf8 (text without lone surrogates)'],
    ['an infinite number', null, JSON.parse('1e400'), 'float64'],
    ['an infinite number', [field('x', 'any')], [JSON.parse('-1e400')], 'float64'],
  ])('%s is refused', (_, fields, value, expected) => {
    expect(refusal({ columns: { x: [value] } }, fields)).toMatch(/^invalid_request: column "x", row 0: /);
    expect(refusal({ columns: { x: [value] } }, fields)).toContain(`, expected ${expected}`);
  });

  test('what is just below passes', () => {
    expect(refusal({ columns: { x: [deep(256), '\ud83d\ude00', 1e308] } }, json)).toBe('accepted');
  });
});

describe('large calls and open types', () => {
  test('above 64 KiB the payload is an Arrow stream', () => {
    const text = 'x'.repeat(40_000);
    const { payload, rows, bytes } = jsonToPayload({ columns: { text: [text, text] } }, inputs);
    expect(payload.kind).toBe('arrow');
    const stream = readStream((payload as { bytes: Uint8Array }).bytes);
    expect([rows, stream.rows, stream.bytes.length]).toEqual([2, 2, bytes]);
    const many = jsonToPayload({ columns: { text: new Array(5000).fill('') } }, inputs);
    expect([many.payload.kind, many.rows]).toEqual(['arrow', 5000]);
  });

  test('any table: types are inferred by kind, and the same kinds share a schema', () => {
    const one = jsonToPayload({ rows: [{ a: 1, b: ['x'], c: { d: true } }, { a: null }] }, null);
    const two = jsonToPayload({ rows: [{ c: { d: null }, b: [], a: 2 ** 40 }] }, null);
    const stream = readStream((one.payload as { bytes: Uint8Array }).bytes);
    expect(stream.fields.map((f) => f.type)).toEqual([
      'int64',
      list('utf8'),
      { struct: [{ name: 'd', type: 'bool', nullable: true }] },
    ]);
    expect(one.schemaKey).toMatch(/^[0-9a-f]{12}$/);
    expect(two.schemaKey).not.toBe(one.schemaKey);
    expect(jsonToPayload({ columns: { c: [{ d: false }], b: [['q']], a: [-5] } }, null).schemaKey).toBe(
      one.schemaKey,
    );
    expect(refusal({ columns: { a: [1, 'x'] } }, null)).toBe(
      'invalid_request: column "a", row 1: "x" among values of int64; a column holds one type',
    );
  });

  test('rows that name other columns each are refused before they cost rows times columns', () => {
    const rows = (count: number, names: number) =>
      Array.from({ length: count }, (_, i) => ({ [`c${i % names}`]: 1 }));
    expect(jsonToPayload({ rows: rows(1000, 1000) }, null).rows).toBe(1000);
    expect(refusal({ rows: rows(16_000, 4000) }, null)).toBe(
      'invalid_request: "rows": 16000 rows of 4000 columns have only 16000 values; at most 4194304 may be absent in all',
    );
    const many = 'at most 4096 beside each other and 16384 in all are allowed';
    const message = `the rows name too many columns; ${many}`;
    expect(refusal({ rows: rows(5000, 5000) }, null)).toBe(`invalid_request: "rows": ${message}`);
    const wide = Object.fromEntries(Array.from({ length: 5000 }, (_, i) => [`c${i}`, [1]]));
    expect(refusal({ columns: wide }, null)).toBe(`invalid_request: "columns": ${message}`);
    expect(refusal({ columns: { s: rows(5000, 5000) } }, [field('s', 'any')])).toBe(
      `invalid_request: column "s": ${message}`,
    );
  });

  test('what rows lack counts in all levels below', () => {
    const leaves = Object.fromEntries(Array.from({ length: 1000 }, (_, i) => [`c${i}`, 1]));
    const rows = new Array<object>(10_000).fill({});
    expect(refusal({ rows: [...rows, { s: { t: leaves } }] }, null)).toBe(
      'invalid_request: column "s".t: 10001 rows of 1000 columns have only 1000 values; at most 4194304 may be absent in all',
    );
  });

  test('rows without columns are rows', () => {
    const { rows, payload } = jsonToPayload({ rows: [{}, {}] }, null);
    expect([rows, readStream((payload as { bytes: Uint8Array }).bytes).rows]).toEqual([2, 2]);
    expect(jsonToPayload({ rows: [] }, null).rows).toBe(0);
  });

  test('one any input: the others keep their declared types', () => {
    const fields = [field('id', 'int16'), field('x', 'any', true)];
    const { payload, schemaKey } = jsonToPayload({ columns: { id: [1, 2], x: [0.5, 1] } }, fields);
    expect(schemaKey).toMatch(/^[0-9a-f]{12}$/);
    const stream = readStream((payload as { bytes: Uint8Array }).bytes);
    expect(stream.fields.map((f) => f.type)).toEqual(['int16', 'float64']);
  });
});
