/** Tensors to columns and back, by their bytes: every datatype, every form, and everything that lies. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readStream, rowsToStream, streamToColumns } from '../../../../shared/arrow/index.ts';
import type { FieldJson, TypeJson } from '../../../../shared/domain/function.ts';
import { SluiceError } from '../../../../shared/errors/sluice-error.ts';
import {
  inferAnswer,
  inferRequest,
  outputTensors,
  type Tensor,
  tensorRows,
} from '../../../../shared/wire/oip/index.ts';

const field = (type: TypeJson, name = 'x'): FieldJson => ({ name, type, nullable: false });
const list = (type: TypeJson): TypeJson => ({ list: { name: 'item', type, nullable: true } });
const fixed = (type: TypeJson, size: number): TypeJson => ({
  fixed_size_list: { name: 'item', type, nullable: true },
  size,
});

const parse = (inputs: unknown, binary: readonly Uint8Array[] = [], more: object = {}) => {
  const json = Buffer.from(JSON.stringify({ inputs, ...more }));
  return inferRequest(Buffer.concat([json, ...binary]), String(json.length));
};
const tensor = (datatype: string, shape: readonly number[], data: readonly unknown[], name = 'x'): Tensor =>
  parse([{ name, datatype, shape, data }]).tensors[0]!;

const refusal = (work: () => unknown): SluiceError => {
  try {
    work();
  } catch (error) {
    if (error instanceof SluiceError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
};

/** What a function that gives its one column back answers, in both forms. */
const echoed = (given: Tensor, type: TypeJson): { json: unknown; binary: Tensor } => {
  const { bytes, rows } = tensorRows([given], [field(type)]);
  // The stream is read as one from outside would be, with every value looked at.
  expect(readStream(bytes).rows).toBe(rows);
  const [answer] = outputTensors([{ bytes, outputRow: 0, count: rows }], { type, nullable: false }, null);
  const head = { model: 'm', version: '1', id: null };
  const text = inferAnswer(head, [answer!], () => false);
  expect(text.jsonBytes).toBeNull();
  const json = (JSON.parse(Buffer.from(text.chunks[0]!).toString()) as { outputs: { data: unknown }[] })
    .outputs[0]!.data;
  const { chunks, bytes: all, jsonBytes } = inferAnswer(head, [answer!], () => true);
  expect(chunks[0]!.byteLength).toBe(jsonBytes);
  expect(Buffer.concat(chunks).byteLength).toBe(all);
  const [back] = parse(
    [
      {
        ...{ name: 'x', datatype: answer!.datatype, shape: answer!.shape },
        parameters: { binary_data_size: chunks[1]!.byteLength },
      },
    ],
    [chunks[1]!],
  ).tensors;
  return { json, binary: back! };
};

const SAMPLES: readonly (readonly [string, string, readonly unknown[]])[] = [
  ['BOOL', 'bool', [true, false, true, true, false, false, true, false, true, true]],
  ['UINT8', 'uint8', [0, 1, 255]],
  ['UINT16', 'uint16', [0, 65_535]],
  ['UINT32', 'uint32', [0, 2 ** 32 - 1]],
  ['UINT64', 'uint64', [0, 9_007_199_254_740_991]],
  ['INT8', 'int8', [-128, 127]],
  ['INT16', 'int16', [-32_768, 32_767]],
  ['INT32', 'int32', [-(2 ** 31), 2 ** 31 - 1]],
  ['INT64', 'int64', [-9_007_199_254_740_991, 9_007_199_254_740_991]],
  ['FP16', 'float16', [-65_504, 0.5, 1.25]],
  ['FP32', 'float32', [-0.5, 1.5, 3]],
  ['FP64', 'float64', [0.1, -1e300]],
  ['BYTES', 'utf8', ['', 'aé', '漢字\u0000']],
  ['BYTES', 'large_utf8', ['x', 'yz']],
  ['BYTES', 'binary', ['bin', '']],
  ['BYTES', 'json', ['{"a":[1]}', 'null']],
];

describe('every datatype', () => {
  it.each(SAMPLES)('%s goes as %s and comes back in both forms', (datatype, type, data) => {
    const { json, binary } = echoed(tensor(datatype, [data.length], data), type);
    expect(json).toEqual(data);
    expect(echoed(binary, type).json).toEqual(data);
  });

  it('keeps all digits of 64-bit integers that come as texts', () => {
    const { bytes } = tensorRows([tensor('INT64', [1], ['-9223372036854775808'])], [field('int64')]);
    expect(streamToColumns(bytes).x).toEqual([-(2n ** 63n)]);
    const top = tensor('UINT64', [1], ['18446744073709551615']);
    const answers = outputTensors(
      [{ bytes: tensorRows([top], [field('uint64')]).bytes, outputRow: 0, count: 1 }],
      { type: 'uint64', nullable: false },
      null,
    );
    const { chunks } = inferAnswer({ model: 'm', version: '1', id: null }, answers, () => false);
    expect(Buffer.from(chunks[0]!).toString()).toContain('"data":[18446744073709551615]');
  });

  it('refuses a text that UTF-8 has no bytes for', () => {
    const { message } = refusal(() => tensor('BYTES', [2], ['a', 'b\ud800c']));
    expect(message).toMatch(/"x" has "b\\ud800c" as element 1, in row 1, which is no BYTES/);
  });

  it('takes any texts of any lengths through BYTES and back', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme' }), { minLength: 1, maxLength: 40 }), (texts) => {
        const { json, binary } = echoed(tensor('BYTES', [texts.length], texts), 'utf8');
        expect(json).toEqual(texts);
        expect(echoed(binary, 'utf8').json).toEqual(texts);
      }),
    );
  });

  it('passes NaN and infinities in binary, and says null for them in JSON', () => {
    const values = Buffer.from(new Float32Array([NaN, Infinity, -Infinity, 1]).buffer);
    const head = { name: 'x', datatype: 'FP32', shape: [4], parameters: { binary_data_size: 16 } };
    const { json, binary } = echoed(parse([head], [values]).tensors[0]!, 'float32');
    expect(json).toEqual([null, null, null, 1]);
    expect(binary.values).toMatchObject({ kind: 'fixed' });
    const { bytes } = binary.values as { bytes: Uint8Array };
    expect(Buffer.from(bytes).equals(values)).toBe(true);
  });
});

describe('lists', () => {
  const data = [1, 2, 3, 4, 5, 6];
  it.each([
    ['list', list('float32')],
    ['fixed_size_list', fixed('float32', 3)],
    ['large_list', { large_list: { name: 'item', type: 'float32', nullable: true } } as TypeJson],
  ])('of %s are trailing dimensions', (_, type) => {
    const { bytes } = tensorRows([tensor('FP32', [2, 3], data)], [field(type)]);
    const rows = streamToColumns(bytes).x as Float32Array[];
    expect(rows.map((row) => [...row])).toEqual([
      [1, 2, 3],
      [4, 5, 6],
    ]);
  });

  it('nest, in both spellings of JSON', () => {
    const type = fixed(list('int16'), 2);
    const flat = tensor('INT16', [1, 2, 3], data);
    const nested = tensor(
      'INT16',
      [1, 2, 3],
      [
        [
          [1, 2, 3],
          [4, 5, 6],
        ],
      ],
    );
    expect(nested.values).toEqual(flat.values);
    const { json, binary } = echoed(flat, type);
    expect(json).toEqual(data);
    expect(binary.shape).toEqual([1, 2, 3]);
  });

  it('of any shape keep their elements in order', () => {
    const shapes = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(shapes, (shape) => {
        const count = shape.reduce((product, size) => product * size, 1);
        const values = Array.from({ length: count }, (_, i) => i);
        const type = shape.slice(1).reduce<TypeJson>((inner) => list(inner), 'int32');
        const { json, binary } = echoed(tensor('INT32', shape, values), type);
        expect(json).toEqual(values);
        expect(binary.shape).toEqual(shape);
      }),
    );
  });

  it('of the output must be as long as each other; the row is named', () => {
    const bytes = rowsToStream({ result: [[1, 2], [3, 4], [5]] }, [field(list('float64'), 'result')]);
    const work = () =>
      outputTensors([{ bytes, outputRow: 0, count: 3 }], { type: list('float64'), nullable: false }, null);
    const error = refusal(work);
    expect(error.code).toBe('not_acceptable');
    expect(error.message).toContain('"result" has lists of 2 and, in row 2, of 1 items');
  });

  it('come from the middle of an output that others share', () => {
    const bytes = rowsToStream({ result: [[0], [1, 2], [3, 4], [5]] }, [field(list('int64'), 'result')]);
    const runs = [
      { bytes, outputRow: 2, count: 1 },
      { bytes, outputRow: 1, count: 1 },
    ];
    const [answer] = outputTensors(runs, { type: list('int64'), nullable: false }, null);
    expect(answer!.shape).toEqual([2, 2]);
    const numbers = new BigInt64Array(new Uint8Array((answer!.values as { bytes: Uint8Array }).bytes).buffer);
    expect([...numbers]).toEqual([3n, 4n, 1n, 2n]);
  });
});

describe('types that no tensor has', () => {
  it.each<[string, TypeJson, string, unknown]>([
    ['timestamps', { timestamp: 'ms', tz: 'UTC' }, '2026-01-02T03:04:05.678Z', undefined],
    ['dates', 'date32', '2026-01-02', undefined],
    ['decimals', { decimal: [6, 2], bits: 128 }, '12.30', undefined],
    ['structs', { struct: [field('int64', 'a')] }, '{"a":1}', '{"a":1}'],
    ['lists as text', list(list('int64')), '[[1],[2,3]]', undefined],
  ])('%s are the text of their JSON', (_, type, text) => {
    const { rows, bytes } = tensorRows([tensor('BYTES', [1], [text])], [field(type)]);
    expect(rows).toBe(1);
    expect(readStream(bytes).fields[0]!.name).toBe('x');
  });

  it('keep integers beyond 2^53 inside of the JSON', () => {
    const type: TypeJson = { struct: [field('int64', 'a')] };
    const { bytes } = tensorRows([tensor('BYTES', [1], ['{"a":9007199254740993}'])], [field(type)]);
    expect(streamToColumns(bytes).x).toEqual([{ a: 9007199254740993n }]);
  });

  it('answer with the text that a JSON answer has', () => {
    const type: TypeJson = { timestamp: 's', tz: 'UTC' };
    const { bytes } = tensorRows([tensor('BYTES', [1], ['2026-01-02T03:04:05Z'])], [field(type)]);
    const [answer] = outputTensors([{ bytes, outputRow: 0, count: 1 }], { type, nullable: false }, null);
    expect(answer).toMatchObject({ datatype: 'BYTES', shape: [1] });
    const { data } = answer!.values as { data: Uint8Array };
    expect(Buffer.from(data).toString()).toBe('2026-01-02T03:04:05Z');
  });

  it('dictionaries are their values, both ways', () => {
    const type: TypeJson = { dictionary: 'utf8', index: 'int8', ordered: false };
    const { json } = echoed(tensor('BYTES', [3], ['a', 'b', 'a']), type);
    expect(json).toEqual(['a', 'b', 'a']);
  });

  it('structs answer with a tensor for each member', () => {
    const type: TypeJson = { struct: [field('float32', 'score'), field('utf8', 'label')] };
    const bytes = rowsToStream(
      {
        result: [
          { score: 0.5, label: 'a' },
          { score: 1, label: 'b' },
        ],
      },
      [field(type, 'result')],
    );
    const runs = [{ bytes, outputRow: 0, count: 2 }];
    const output = { type, nullable: false };
    expect(outputTensors(runs, output, null).map(({ name, datatype }) => [name, datatype])).toEqual([
      ['score', 'FP32'],
      ['label', 'BYTES'],
    ]);
    expect(outputTensors(runs, output, new Set(['label']))).toHaveLength(1);
  });
});

it('names the row of a null, which a tensor cannot say', () => {
  const bytes = rowsToStream({ result: [1, null] }, [{ name: 'result', type: 'int64', nullable: true }]);
  const output = { type: 'int64', nullable: true };
  const error = refusal(() => outputTensors([{ bytes, outputRow: 0, count: 2 }], output, null));
  expect(error.message).toContain('is null in row 1');
});

describe('inputs are matched', () => {
  const inputs = [field('int64', 'a'), field('utf8', 'b')];
  it('by name, in any order', () => {
    const given = [tensor('BYTES', [1], ['t'], 'b'), tensor('INT64', [1], [1], 'a')];
    expect(streamToColumns(tensorRows(given, inputs).bytes)).toEqual({ a: [1], b: ['t'] });
  });
  it('by their place where there is one of each', () => {
    const { bytes } = tensorRows([tensor('INT64', [1], [1], 'whatever')], [field('int64')]);
    expect(streamToColumns(bytes)).toEqual({ x: [1] });
  });
  it('with a column of ones behind the rows as if it were not there', () => {
    const { bytes } = tensorRows([tensor('INT64', [2, 1], [[1], [2]])], [field('int64')]);
    expect(streamToColumns(bytes)).toEqual({ x: [1, 2] });
  });
  it('to nothing where any table is taken, in types of their own', () => {
    const given = [tensor('FP32', [1, 2], [1, 2], 'v'), tensor('BYTES', [1], ['t'], 'b')];
    const { bytes, schemaKey } = tensorRows(given, null);
    expect(readStream(bytes).fields.map(({ type }) => type)).toMatchObject([{ size: 2 }, 'utf8']);
    expect(schemaKey).not.toBe('');
  });
  it('with casts that lose nothing', () => {
    expect(tensorRows([tensor('INT8', [1], [1])], [field('int64')]).schemaKey).toBe('');
    expect(tensorRows([tensor('FP16', [1], [1])], [field('float64')]).rows).toBe(1);
  });

  const one = (datatype: string, shape: number[], data: unknown[], type: TypeJson) => () =>
    tensorRows([tensor(datatype, shape, data)], [field(type)]);
  it.each<[string, () => unknown, RegExp]>([
    ['a cast that loses', one('FP64', [1], [1], 'float32'), /"x" is FP64.*float32.*send FP32/],
    ['numbers for texts', one('INT64', [1], [1], 'utf8'), /"x" is INT64.*send BYTES/],
    ['texts for numbers', one('BYTES', [1], ['1'], 'int64'), /"x" is BYTES; int64 takes INT64/],
    ['a wrong width', one('FP32', [1, 3], [1, 2, 3], fixed('float32', 4)), /\[1, 3\].*takes \[-1, 4\]/],
    ['a dimension too few', one('FP32', [3], [1, 2, 3], list('float32')), /takes \[-1, -1\]/],
    ['a dimension too many', one('FP32', [1, 3], [1, 2, 3], 'float32'), /takes \[-1\]/],
    ['text that is no JSON', one('BYTES', [1], ['{'], 'json'), /row 0.*not valid JSON/],
    ['text that is no date', one('BYTES', [1], ['soon'], 'date32'), /"x" in row 0 .*soon/],
    ['a struct that lacks a member', one('BYTES', [1], ['{}'], { struct: [field('int64', 'a')] }), /row 0/],
    [
      'an input that is not there',
      () => tensorRows([tensor('INT64', [1], [1], 'a'), tensor('INT64', [1], [1], 'c')], inputs),
      /"b" is missing/,
    ],
    [
      'an input too many',
      () =>
        tensorRows(
          [tensor('INT64', [1], [1], 'a'), tensor('BYTES', [1], ['t'], 'b'), tensor('INT64', [1], [1], 'c')],
          inputs,
        ),
      /"c" is no input/,
    ],
    [
      'the same input twice',
      () => tensorRows([tensor('INT64', [1], [1], 'a'), tensor('INT64', [1], [1], 'a')], inputs),
      /"a" is there twice/,
    ],
    [
      'rows of two counts',
      () => tensorRows([tensor('INT64', [2], [1, 2], 'a'), tensor('BYTES', [1], ['t'], 'b')], inputs),
      /"b" has 1 rows.*"a" has 2/,
    ],
    ['nothing', () => tensorRows([], inputs), /no inputs/],
  ])('and not: %s', (_, work, message) => {
    const error = refusal(work);
    expect(error.status).toBe(400);
    expect(error.message).toMatch(message);
  });
});

describe('what lies is refused before anything is made of it', () => {
  const input = (more: object) => [{ name: 'x', datatype: 'INT64', shape: [1], ...more }];
  const sized = (size: unknown, more: object = {}) =>
    input({ parameters: { binary_data_size: size }, ...more });
  const bytes = (length: number) => [new Uint8Array(length)];
  it.each<[string, () => unknown, RegExp]>([
    ['a negative dimension', () => parse(input({ shape: [-1], data: [1] })), /"x".*\[-1\]/],
    ['half a row', () => parse(input({ shape: [0.5], data: [1] })), /0\.5/],
    ['a dimension above all', () => parse(input({ shape: [2 ** 31], data: [1] })), /2147483648/],
    [
      'a product above all',
      () => parse(input({ shape: [2 ** 30, 2 ** 30], data: [1] })),
      /product is too large/,
    ],
    ['rows of nothing', () => parse(input({ shape: [2 ** 30, 0], data: [] })), /too many rows/],
    ['lists of nothing', () => parse(input({ shape: [1, 2 ** 30, 0], data: [] })), /too many rows or lists/],
    ['no shape', () => parse(input({ shape: [], data: [1] })), /shape/],
    [
      'a shape of 33 dimensions',
      () => parse(input({ shape: Array(33).fill(1), data: [1] })),
      /32 dimensions/,
    ],
    ['an unknown datatype', () => parse(input({ datatype: 'FP8', data: [1] })), /"FP8".*BOOL/],
    [
      'a datatype of the prototype',
      () => parse(input({ datatype: 'constructor', data: [1] })),
      /constructor/,
    ],
    ['no name', () => parse([{ datatype: 'INT64', shape: [1], data: [1] }]), /#0.*name/],
    ['no data', () => parse(input({})), /"x" has no data/],
    ['too few elements', () => parse(input({ shape: [3], data: [1] })), /1 elements.*\[3\] has 3/],
    ['a ragged list', () => parse(input({ shape: [2, 2], data: [[1, 2], [3]] })), /not nested.*dimension 1/],
    ['a null', () => parse(input({ data: [null] })), /null as element 0, in row 0/],
    ['a number with a fraction', () => parse(input({ data: [1.5] })), /1\.5 as element 0/],
    ['an integer without its digits', () => parse(input({ data: [1e21] })), /string of digits/],
    ['an integer beyond its type', () => parse(input({ data: [2 ** 63] })), /as element 0.*no INT64/],
    ['a number out of range', () => parse(input({ datatype: 'INT8', data: [128] })), /128.*no INT8/],
    ['a float that overflows', () => parse(input({ datatype: 'FP32', data: [1e39] })), /no FP32/],
    ['a flag that is a number', () => parse(input({ datatype: 'BOOL', data: [1] })), /no BOOL/],
    ['a size that is a text', () => parse(sized('8'), bytes(8)), /binary_data_size "8"/],
    ['a negative size', () => parse(sized(-8), bytes(8)), /binary_data_size -8/],
    ['a size of a gigabyte', () => parse(sized(2 ** 30), bytes(8)), /1073741824, and 8 bytes are left/],
    ['a size beside the shape', () => parse(sized(16), bytes(16)), /16 bytes.*\[1\] has 8/],
    ['bytes that belong to nobody', () => parse(sized(8), bytes(9)), /1 bytes of the body/],
    ['both forms at once', () => parse(sized(8, { data: [1] }), bytes(8)), /both data and binary/],
    ['a list of inputs that is none', () => parse({}), /inputs is no list/],
    ['inputs that are no objects', () => parse([1]), /inputs is no list/],
    ['shared memory', () => parse(input({ parameters: { shared_memory_region: 'r' } })), /shared memory/],
    [
      'classification',
      () => parse(input({ data: [1] }), [], { outputs: [{ name: 'r', parameters: { classification: 3 } }] }),
      /classification/,
    ],
    [
      'a timeout before now',
      () => parse(input({ data: [1] }), [], { parameters: { timeout: -1 } }),
      /timeout/,
    ],
    ['an id that is none', () => parse(input({ data: [1] }), [], { id: 7 }), /id is no string/],
    ['JSON that is cut off', () => inferRequest(Buffer.from('{"inputs":'), undefined), /does not parse/],
    [
      'NaN in JSON',
      () => inferRequest(Buffer.from('{"inputs":[{"data":[NaN]}]}'), undefined),
      /does not parse/,
    ],
    ['a list', () => inferRequest(Buffer.from('[]'), undefined), /not an object/],
    ['bytes that are no UTF-8', () => inferRequest(Buffer.from([0x7b, 0xff]), undefined), /UTF-8/],
    ['a length above the body', () => inferRequest(Buffer.from('{}'), '3'), /Content-Length is "3"/],
    ['a length that is none', () => inferRequest(Buffer.from('{}'), '-1'), /Content-Length/],
  ])('%s', (_, work, message) => {
    const error = refusal(work);
    expect(error.status).toBe(400);
    expect(error.message).toMatch(message);
  });

  const texts = (lengths: readonly number[], elements: number) => {
    const body = Buffer.alloc(lengths.length * 4);
    lengths.forEach((length, i) => {
      body.writeUInt32LE(length, i * 4);
    });
    const head = { name: 'x', datatype: 'BYTES', shape: [elements] };
    return () => parse([{ ...head, parameters: { binary_data_size: body.length } }], [body]);
  };
  it.each<[string, () => unknown, RegExp]>([
    ['claims a gigabyte', texts([2 ** 30], 1), /cut off: element 0/],
    ['claims the rest as its own', texts([4, 0], 2), /element 0 of 2 leaves no room/],
    ['claims a billion elements', texts([0], 2 ** 30), /too few for 1073741824 elements/],
    ['has more behind its last element', texts([0, 0], 1), /8 bytes.*1 elements take 4/],
  ])('BYTES that %s', (_, work, message) => {
    expect(refusal(work).message).toMatch(message);
  });

  it('text whose characters are cut by its elements', () => {
    const body = Buffer.from([1, 0, 0, 0, 0xc3, 1, 0, 0, 0, 0xa9]);
    const head = { name: 'x', datatype: 'BYTES', shape: [2], parameters: { binary_data_size: 10 } };
    const { tensors } = parse([head], [body]);
    expect(refusal(() => tensorRows(tensors, [field('utf8')])).message).toContain(
      'not valid UTF-8 in element 0',
    );
    expect(tensorRows(tensors, [field('binary')]).rows).toBe(2);
  });

  it('any bytes at all are read or refused, and nothing else', () => {
    const bodies = fc.uint8Array({ maxLength: 64 });
    fc.assert(
      fc.property(
        bodies,
        fc.integer({ min: 0, max: 5 }),
        fc.constantFrom('BYTES', 'FP64', 'BOOL'),
        (body, n, datatype) => {
          const head = { name: 'x', datatype, shape: [n], parameters: { binary_data_size: body.length } };
          try {
            const { rows, bytes: made } = tensorRows(parse([head], [body]).tensors, null);
            expect(readStream(made).rows).toBe(rows);
          } catch (error) {
            expect(error).toBeInstanceOf(SluiceError);
            expect((error as SluiceError).status).toBe(400);
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});
