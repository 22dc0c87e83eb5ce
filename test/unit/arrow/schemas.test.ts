import { columnFromArray, nullType, tableFromColumns, tableToIPC } from '@uwdata/flechette';
import { describe, expect, test } from 'vitest';
import {
  checkOutput,
  matchInputs,
  parseType,
  readStream,
  rowsToStream,
  typeText,
} from '../../../shared/arrow/index.ts';
import { firstNull } from '../../../shared/arrow/input-match.ts';
import type { FieldJson, TypeJson } from '../../../shared/domain/function.ts';
import type { SluiceError } from '../../../shared/errors/sluice-error.ts';

const field = (name: string, type: TypeJson, nullable = true): FieldJson => ({ name, type, nullable });
const item = (type: TypeJson): FieldJson => field('item', type);
const streamOf = (...fields: FieldJson[]) =>
  readStream(rowsToStream(Object.fromEntries(fields.map(({ name }) => [name, []])), fields));

const outcome = (run: () => unknown): string => {
  try {
    run();
    return 'accepted';
  } catch (error) {
    return `${(error as SluiceError).code}: ${(error as Error).message}`;
  }
};

describe('casts', () => {
  const list = { list: item('float32') };
  const wide = { large_list: item('float64') };
  const fixed = { fixed_size_list: item('float32'), size: 3 };
  const casts: [TypeJson, TypeJson, boolean][] = [
    ['int32', 'int64', true],
    ['int64', 'int32', false],
    ['uint32', 'int64', true],
    ['uint64', 'int64', false],
    ['int32', 'uint64', false],
    ['int32', 'float64', true],
    ['int32', 'float32', false],
    ['int16', 'float32', true],
    ['int64', 'float64', false],
    ['int8', 'float16', true],
    ['int16', 'float16', false],
    ['float32', 'float64', true],
    ['float64', 'float32', false],
    ['utf8', 'large_utf8', true],
    ['large_utf8', 'utf8', true],
    ['utf8', 'binary', false],
    [{ fixed_size_binary: 3 }, 'binary', true],
    ['null', 'utf8', true],
    ['utf8', 'json', true],
    [{ struct: [item('int8')] }, 'json', true],
    ['int8', 'json', false],
    ['bool', 'int8', false],
    [list, wide, true],
    [fixed, list, true],
    [list, fixed, false],
    [wide, list, false],
    [{ dictionary: 'utf8', index: 'int8', ordered: false }, 'large_utf8', true],
    ['utf8', { dictionary: 'utf8', index: 'int8', ordered: false }, false],
    [{ timestamp: 's', tz: null }, { timestamp: 'us', tz: null }, true],
    [{ timestamp: 'us', tz: null }, { timestamp: 'ms', tz: null }, false],
    [{ timestamp: 's', tz: 'UTC' }, { timestamp: 's', tz: null }, false],
    ['date32', 'date64', true],
    [{ decimal: [10, 2], bits: 128 }, { decimal: [12, 4], bits: 256 }, true],
    [{ decimal: [10, 2], bits: 128 }, { decimal: [10, 4], bits: 128 }, false],
  ];
  test.each(casts)('%j to %j', (from, to, expected) => {
    const refused = outcome(() => matchInputs(streamOf(field('x', from)), [field('x', to)]));
    const message = `schema_mismatch: column "x" is ${typeText(from)}, which does not cast to ${typeText(to)} without loss`;
    expect(refused).toBe(expected ? 'accepted' : message);
  });
});

describe('columns', () => {
  const inputs = [field('a', 'utf8', false), field('b', 'int64')];
  test('are matched by name in any order', () => {
    expect(matchInputs(streamOf(field('b', 'int8'), field('a', 'utf8')), inputs)).toEqual({ schemaKey: '' });
    expect(outcome(() => matchInputs(streamOf(field('a', 'utf8')), inputs))).toBe(
      'schema_mismatch: column "b" is missing; the inputs are "a" utf8 not null, "b" int64, the stream has "a" utf8',
    );
    expect(outcome(() => matchInputs(streamOf(...inputs, field('c', 'int8')), inputs))).toBe(
      'schema_mismatch: column "c" is no input of the function; its inputs are "a" utf8 not null, "b" int64',
    );
    expect(outcome(() => matchInputs(streamOf(field('a', 'utf8'), field('a', 'utf8')), null))).toBe(
      'schema_mismatch: column "a" is there twice',
    );
  });

  test('nulls in an input that is not nullable are named by row', () => {
    const stream = readStream(rowsToStream({ a: ['x', 'y', null, null], b: [1, 2, 3, 4] }));
    expect(outcome(() => matchInputs(stream, inputs))).toBe(
      'schema_mismatch: column "a" is not nullable, but row 2 is null',
    );
    const nothing = readStream(rowsToStream({ a: [null], b: [1] }));
    expect(outcome(() => matchInputs(nothing, inputs))).toContain('row 0 is null');
  });

  test('a null value of a dictionary is a null', () => {
    const type: TypeJson = { dictionary: 'utf8', index: 'int8', ordered: false };
    const { bytes } = readStream(
      rowsToStream({ a: ['x', 'y', 'x'], b: [1, 2, 3] }, [field('a', type), inputs[1]!]),
    );
    const stream = readStream(bytes);
    const column = stream.batches[0]!.columns[0]!;
    const chunk = column.dictionary!.chunks[0]!;
    const holed = { ...chunk, nullCount: 1, validity: Uint8Array.of(0b01) };
    expect(firstNull(column)).toBe(-1);
    expect(firstNull({ ...column, dictionary: { chunks: [holed], length: 2 } })).toBe(1);
  });

  test('texts of a json input must parse', () => {
    const stream = readStream(rowsToStream({ a: ['1', '{"x": [null]}', '{x}'] }));
    expect(outcome(() => matchInputs(stream, [field('a', 'json')]))).toBe(
      'schema_mismatch: column "a", row 2: the text is not valid JSON',
    );
    expect(outcome(() => matchInputs(stream, [field('a', 'utf8')]))).toBe('accepted');
  });

  test.each([
    [`${'['.repeat(5000)}${']'.repeat(5000)}`, 'is JSON, but not with at most 256 levels'],
    ['{"v": 1e400}', 'is JSON, but not with numbers that a double holds'],
    ['"\\ud800"', 'is JSON, but not with text without lone surrogates'],
  ])('texts of a json input must be read alike by all', (text, why) => {
    const stream = readStream(rowsToStream({ a: [`1${'0'.repeat(400)}`, text] }));
    expect(outcome(() => matchInputs(stream, [field('a', 'json')]))).toBe(
      `schema_mismatch: column "a", row 1: the text ${why}`,
    );
  });

  test('open inputs get a key of the actual schema, whatever the order of columns', () => {
    const [a, b] = [field('a', 'utf8'), field('b', 'int8')];
    const key = matchInputs(streamOf(a, b), null).schemaKey;
    expect(key).toMatch(/^[0-9a-f]{12}$/);
    expect(matchInputs(streamOf(b, a), null).schemaKey).toBe(key);
    expect(matchInputs(streamOf(b, a), [field('a', 'any'), field('b', 'int64')]).schemaKey).toBe(key);
    expect(matchInputs(streamOf(a, field('b', 'int16')), null).schemaKey).not.toBe(key);
  });
});

describe('outputs', () => {
  const answer = (type: TypeJson, values: unknown[], name = 'result'): Uint8Array =>
    rowsToStream({ [name]: values }, [field(name, type)]);
  const check = (bytes: Uint8Array, type: TypeJson, rows: number, nullable = true): string =>
    outcome(() => checkOutput(bytes, { type, nullable }, rows));

  test('are one column of the declared type with a value for each row', () => {
    expect(check(answer('int8', [1, null]), 'int8', 2)).toBe('accepted');
    expect(check(answer('int8', [1]), 'int8', 2)).toBe(
      'handler_output_invalid: the handler got 2 rows and returned 1; it must return one value for each row',
    );
    expect(check(answer('int8', [1]), 'int64', 1)).toBe(
      'handler_output_invalid: the answer is of type int8, the function declares int64',
    );
    expect(check(answer('int8', [1], 'x'), 'int8', 1)).toBe(
      'handler_output_invalid: the answer has the columns "x", expected one column "result"',
    );
    expect(check(answer('int8', [1, null]), 'int8', 2, false)).toBe(
      'handler_output_invalid: row 1 of the answer is null, and the output is not nullable',
    );
    expect(check(new Uint8Array(3), 'int8', 1)).toContain(
      'handler_output_invalid: the answer is not a valid Arrow stream',
    );
  });

  test('the name of a list item does not matter', () => {
    const type = { list: field('element', 'float32', false) };
    expect(check(answer(type, [[1]]), { list: item('float32') }, 1)).toBe('accepted');
  });

  test('json must parse, marked or plain', () => {
    expect(check(answer('utf8', ['{"a": 1}', null]), 'json', 2)).toBe('accepted');
    expect(check(answer('json', [{ a: 1 }]), 'json', 1)).toBe('accepted');
    expect(check(answer('utf8', ['1', '{a: 1}']), 'json', 2)).toContain(
      'row 1 of the answer is not valid JSON',
    );
  });
});

describe('types from outside', () => {
  const types: TypeJson[] = [
    'json',
    { list: item({ struct: [item('int8')] }) },
    { map: [field('key', 'utf8', false), item('any')] },
    { dictionary: 'utf8', index: 'uint16', ordered: true },
    { timestamp: 'ns', tz: 'Europe/Berlin' },
    { decimal: [76, -3], bits: 256 },
    { fixed_size_list: item('bool'), size: 0 },
  ];
  test.each(types)('%j is one', (type) => expect(parseType(type, 'output')).toEqual(type));

  test.each<[unknown, string]>([
    ['int7', 'output: "int7" is not a type; names are'],
    [7, 'output: a type is a name or an object, not 7'],
    [{}, 'output: no type has the members (none)'],
    [{ list: 'utf8' }, 'output.list: a field is {"name", "type", "nullable"}'],
    [{ list: { name: 'item', type: 'x' } }, 'output.list.type: "x" is not a type'],
    [
      { fixed_size_list: item('int8'), size: -1 },
      'output.size: must be an integer from 0 to 2147483647, not -1',
    ],
    [{ timestamp: 'm' }, 'output.timestamp: must be one of s, ms, us, ns, not "m"'],
    [{ decimal: [39, 0] }, 'output.decimal[0]: must be an integer from 1 to 38, not 39'],
    [{ dictionary: 'utf8', index: 'float32' }, 'output.index: must be an integer type'],
    [{ struct: 'x' }, 'output.struct: must be a list'],
  ])('%j is none', (type, message) => {
    expect(outcome(() => parseType(type, 'output'))).toContain(`invalid_function: ${message}`);
  });

  test('nesting is bounded', () => {
    let type: TypeJson = 'int8';
    for (let i = 0; i < 100; i++) type = { list: item(type) };
    expect(outcome(() => parseType(type, 'output'))).toContain('types nest at most 64 levels deep');
  });
});

test('a stream whose columns are all of nulls has no buffers, and some writers no list of them', () => {
  const table = tableFromColumns({ note: columnFromArray([null, null], nullType()) });
  const stream = readStream(tableToIPC(table, { format: 'stream' })!);
  expect([stream.rows, stream.batches.length]).toEqual([2, 1]);
});
