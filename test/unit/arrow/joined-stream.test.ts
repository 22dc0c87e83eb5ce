/** Streams joined to one batch of the declared types: nothing is lost, whatever the parts were; what does not fit is told. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  CastError,
  columnStream,
  joinedStream,
  readStream,
  rowsToStream,
  streamToColumns,
} from '../../../shared/arrow/index.ts';
import type { FieldJson, TypeJson } from '../../../shared/domain/function.ts';

const field = (type: TypeJson, name = 'x', nullable = true): FieldJson => ({ name, type, nullable });
const item = (type: TypeJson): FieldJson => field(type, 'item');

/** Rows of parts, each with the type that it came in. */
const joined = (parts: readonly (readonly [TypeJson, readonly unknown[]])[], to: TypeJson) => {
  const streams = parts.map(([type, x]) => rowsToStream({ x }, [field(type)]));
  const stream = readStream(joinedStream(streams, [field(to)]));
  expect(stream.batches).toHaveLength(1);
  return { values: [...(streamToColumns(stream.bytes).x as unknown[])], type: stream.fields[0]!.type };
};

const TYPES: readonly (readonly [TypeJson, fc.Arbitrary<unknown>])[] = [
  ['bool', fc.boolean()],
  ['int8', fc.integer({ min: -128, max: 127 })],
  ['int64', fc.maxSafeInteger()],
  ['float64', fc.double({ noNaN: true })],
  ['utf8', fc.string({ unit: 'grapheme', maxLength: 5 })],
  ['large_utf8', fc.string({ maxLength: 5 })],
  [{ list: item('utf8') }, fc.array(fc.option(fc.string({ maxLength: 3 })), { maxLength: 3 })],
  [{ large_list: item('int64') }, fc.array(fc.maxSafeInteger(), { maxLength: 3 })],
  [
    { fixed_size_list: item('int64'), size: 2 },
    fc.tuple(fc.option(fc.maxSafeInteger()), fc.maxSafeInteger()),
  ],
  [
    { struct: [field('utf8', 'a'), field({ list: item('bool') }, 'b')] },
    fc.record({ a: fc.option(fc.string()), b: fc.array(fc.boolean(), { maxLength: 9 }) }),
  ],
];

describe('joined streams', () => {
  it.each(TYPES)('hold the rows of all parts in order: %j', (type, value) => {
    const parts = fc.array(fc.array(fc.option(value), { minLength: 1, maxLength: 20 }), {
      minLength: 1,
      maxLength: 5,
    });
    fc.assert(
      fc.property(parts, (rows) => {
        const expected = [
          ...(streamToColumns(rowsToStream({ x: rows.flat() }, [field(type)])).x as unknown[]),
        ];
        const found = joined(
          rows.map((x) => [type, x]),
          type,
        );
        expect(found.values).toEqual(expected);
      }),
    );
  });

  it('take the declared type from whatever casts to it without loss', () => {
    const date = new Date('2026-01-02T03:04:05.000Z');
    const timestamp = (unit: 's' | 'ns'): TypeJson => ({ timestamp: unit, tz: 'UTC' });
    expect(
      joined(
        [
          ['int8', [-1]],
          ['uint32', [2 ** 32 - 1, null]],
          ['null', [null]],
        ],
        'int64',
      ).values,
    ).toEqual([-1, 2 ** 32 - 1, null, null]);
    expect(
      joined(
        [
          ['float32', [0.5]],
          ['int32', [7]],
        ],
        'float64',
      ).values,
    ).toEqual([0.5, 7]);
    expect(
      joined(
        [
          ['utf8', ['é']],
          ['large_utf8', [null, 'b']],
        ],
        'large_utf8',
      ).values,
    ).toEqual(['é', null, 'b']);
    expect(
      joined(
        [
          [timestamp('s'), [date]],
          [timestamp('ns'), [date]],
        ],
        timestamp('ns'),
      ).values,
    ).toEqual([date, date]);
    expect(
      joined([[{ decimal: [4, 1], bits: 128 }, ['-1.5']]], { decimal: [40, 3], bits: 256 }).values,
    ).toEqual(['-1.500']);
    expect(
      joined(
        [
          [{ fixed_size_list: item('int8'), size: 1 }, [[1]]],
          [{ list: item('int64') }, [[], [2, 3]]],
        ],
        {
          list: item('int64'),
        },
      ).values,
    ).toEqual([[1], [], [2, 3]]);
    expect(
      joined(
        [
          ['utf8', ['{"a":1}']],
          [{ struct: [field('int64', 'a')] }, [{ a: 2 }]],
        ],
        'json',
      ).values,
    ).toEqual([{ a: 1 }, { a: 2 }]);
  });

  it('make values of dictionaries, each part of its own', () => {
    const dictionary: TypeJson = { dictionary: 'utf8', index: 'int8', ordered: false };
    const found = joined(
      [
        [dictionary, ['a', null, 'a']],
        ['utf8', ['z']],
        [dictionary, ['b', 'a']],
      ],
      dictionary,
    );
    expect(found).toEqual({ values: ['a', null, 'a', 'z', 'b', 'a'], type: 'utf8' });
  });

  it('have the columns in the declared order, and pass whole streams untouched', () => {
    const stream = rowsToStream({ b: [1], a: ['x'] });
    const inputs = [field('utf8', 'a'), field(readStream(stream).fields[0]!.type, 'b')];
    expect(readStream(joinedStream([stream], inputs)).fields.map(({ name }) => name)).toEqual(['a', 'b']);
    expect(joinedStream([stream], null)).toBe(stream);
    expect(() => joinedStream([stream], [field('utf8', 'c')])).toThrow(/column "c" is missing/);
  });
});

describe('an answer’s column as the declared output', () => {
  const cast = (type: TypeJson, x: readonly unknown[], to: TypeJson): unknown[] => {
    const stream = readStream(rowsToStream({ x }, [field(type)]));
    return [...(streamToColumns(columnStream(stream, [0], field(to, 'result'), false)).result as unknown[])];
  };

  it.each([
    ['int64', [1, null, -128], 'int8'],
    ['float64', [1, 2 ** 52], 'int64'],
    ['int64', [2 ** 52], 'float64'],
    ['float64', [0.5, null], 'float32'],
    ['uint64', [2 ** 40], 'int64'],
  ] as const)('takes numbers that fit: %s %j as %s', (from, values, to) => {
    expect(cast(from, values, to)).toEqual(values);
  });

  it.each([
    ['int64', [128], 'int8', /the value 128 of int64 does not fit int8/],
    ['int64', [-1], 'uint64', /does not fit/],
    ['float64', [0.5], 'int32', /the value 0.5/],
    ['float64', [Number.NaN], 'int32', /NaN/],
    ['float64', [1e300], 'int64', /does not fit/],
    [{ decimal: [4, 1], bits: 128 }, ['1.5'], 'float64', /decimal128\(4, 1\) does not cast/],
    ['utf8', ['1'], 'int64', /utf8 does not cast to int64/],
    ['bool', [true], 'int8', /bool does not cast/],
    ['int64', [1], 'bool', /int64 does not cast to bool/],
    ['int64', [1], 'null', /int64 does not cast to null/],
    [{ list: item('int64') }, [[1, 2]], { fixed_size_list: item('int64'), size: 3 }, /a list of 2 items/],
    [{ struct: [field('int64', 'a')] }, [{ a: 1 }], { struct: [field('int64', 'b')] }, /does not cast/],
  ] as const)('refuses what does not: %j %j as %j', (from, values, to, message) => {
    expect(() => cast(from, values, to)).toThrow(CastError);
    expect(() => cast(from, values, to)).toThrow(message);
  });

  it('refuses an integer that no float holds', () => {
    expect(() => cast('int64', [2n ** 53n + 1n], 'float64')).toThrow(/9007199254740993/);
  });

  it('takes lists of one length for fixed ones, with nulls between them', () => {
    const to = { fixed_size_list: item('int64'), size: 2 };
    expect(cast({ list: item('int64') }, [[1, 2], null, [3, 4]], to)).toEqual([[1, 2], null, [3, 4]]);
  });
});
