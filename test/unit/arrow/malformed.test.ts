/** Bytes that nobody vouches for: each is refused with `invalid_arrow` or can be used like any other stream. */
import { Builder } from 'flatbuffers';
import { describe, expect, test } from 'vitest';
import { nodesOf } from '../../../shared/arrow/array-node.ts';
import { joinBytes } from '../../../shared/arrow/batch-sink.ts';
import {
  readStream,
  resultArrow,
  resultJson,
  sliceStream,
  streamToColumns,
} from '../../../shared/arrow/index.ts';
import {
  batchMessage,
  END_OF_STREAM,
  frameMessage,
  MESSAGE_SCHEMA,
} from '../../../shared/arrow/message-frame.ts';
import { fieldsToSchemaMessage, schemaMessage } from '../../../shared/arrow/schema-message.ts';
import type { TypeJson } from '../../../shared/domain/function.ts';
import { SluiceError } from '../../../shared/errors/sluice-error.ts';
import { random } from './mutations.ts';
import { inBatches, type Sample, samples } from './samples.ts';

/** Whatever is accepted must be usable without an exception, and its slices must be valid streams. */
function use(bytes: Uint8Array): 'accepted' | 'refused' {
  let stream: ReturnType<typeof readStream>;
  try {
    stream = readStream(bytes);
  } catch (error) {
    expect(error).toBeInstanceOf(SluiceError);
    expect((error as SluiceError).code).toBe('invalid_arrow');
    return 'refused';
  }
  streamToColumns(bytes);
  const { rows } = stream;
  for (const [from, count] of [
    [0, rows],
    [Math.min(1, rows), Math.max(0, rows - 1)],
  ] as const)
    expect(readStream(sliceStream(stream, from, count)).rows).toBe(count);
  const [field] = stream.fields;
  if (field !== undefined) {
    const part = { state: 'ok' as const, from: 0, count: rows, output: { bytes }, outputRow: 0 };
    const output = { type: field.type, nullable: true };
    const { values } = resultJson([part], output);
    // Embedded JSON texts are checked by checkOutput, not here.
    if (field.type !== 'json') expect(JSON.parse(`[${values}]`).length).toBe(rows);
    if (stream.fields.length === 1) readStream(joinBytes([...resultArrow([part], output)]));
  }
  return 'accepted';
}

const refusal = (bytes: Uint8Array): string => {
  try {
    readStream(bytes);
    return 'accepted';
  } catch (error) {
    return (error as SluiceError).message;
  }
};

describe('broken streams', () => {
  test.each(samples)('$name cut off at every byte', ({ bytes }: Sample) => {
    const whole = inBatches(bytes);
    expect(use(whole)).toBe('accepted');
    const accepted: number[] = [];
    for (let length = 0; length < whole.length; length++)
      if (use(whole.slice(0, length)) === 'accepted') accepted.push(length);
    // Only between messages: the end-of-stream marker may be absent by the format.
    expect(accepted.length).toBeLessThanOrEqual(9);
  });

  test.each(samples)('$name with random bytes changed', ({ bytes, name }: Sample) => {
    const whole = inBatches(bytes);
    const counts = { accepted: 0, refused: 0 };
    for (let seed = 1; seed <= 600; seed++) {
      const next = random(seed * 7919);
      const broken = whole.slice();
      for (let flips = 1 + next(3); flips > 0; flips--)
        broken[next(broken.length)] = [0, 1, 0x7f, 0x80, 0xff, next(256)][next(6)]!;
      try {
        counts[use(broken)]++;
      } catch (error) {
        throw new Error(`sample ${name}, seed ${seed}`, { cause: error });
      }
    }
    expect(counts.refused).toBeGreaterThan(100);
  });

  test('random words at every aligned place of the metadata', () => {
    for (const { bytes, name } of samples)
      for (let at = 0; at + 4 <= Math.min(bytes.length, 480); at += 4)
        for (const word of [0x7fffffff, 0x80000000, 0xffffffff, 0x00ffffff, 8]) {
          const broken = bytes.slice();
          new DataView(broken.buffer).setUint32(at, word, true);
          try {
            use(broken);
          } catch (error) {
            throw new Error(`sample ${name}, byte ${at}, word ${word}`, { cause: error });
          }
        }
  });

  test('garbage, other formats and nothing', () => {
    expect(refusal(new Uint8Array(0))).toBe('the stream has no schema message');
    expect(refusal(new Uint8Array(4))).toBe('message 0: the stream is cut off after 4 of 8 bytes');
    expect(refusal(END_OF_STREAM)).toBe('the stream has no schema message');
    expect(refusal(Buffer.from('PAR1xxxxxxxxxxx'))).toBe('this is a Parquet file; send an Arrow IPC stream');
    expect(refusal(Buffer.from('{"columns": {}}'))).toContain('continuation marker');
    expect(refusal(joinBytes([samples[0]!.bytes, new Uint8Array(8)]))).toContain(
      'bytes follow the end of the stream',
    );
    const schema = fieldsToSchemaMessage([]);
    expect(refusal(joinBytes([schema, schema]))).toBe('message 1: a second schema');
  });
});

type Batch = { type: TypeJson; rows: number; nodes: number[]; regions: number[]; body?: number[] };

/** A stream whose batch metadata says what it wants. */
function stream({ type, rows, nodes, regions, body = [] }: Batch): Uint8Array {
  const schema = schemaMessage(nodesOf([{ name: 'x', type, nullable: true }]));
  const bytes = new Uint8Array((body.length + 7) & ~7);
  bytes.set(body);
  const metadata = batchMessage({ rows, nodes, regions, bodyBytes: bytes.length });
  return joinBytes([schema, metadata, bytes, END_OF_STREAM]);
}

const int32s = (...values: number[]): number[] => [...new Uint8Array(Int32Array.from(values).buffer)];

describe('batches that lie', () => {
  const list: TypeJson = { list: { name: 'item', type: 'int8', nullable: true } };
  const cases: [string, Batch, string][] = [
    [
      'values too short',
      { type: 'int32', rows: 4, nodes: [4, 0], regions: [0, 0, 0, 8], body: int32s(1, 2) },
      'values buffer has 8 bytes, 16 are needed',
    ],
    [
      'buffer outside the body',
      { type: 'int32', rows: 1, nodes: [1, 0], regions: [0, 0, 8, 8], body: int32s(1, 2) },
      'ends outside the body of 8 bytes',
    ],
    [
      'other row count',
      { type: 'int8', rows: 2, nodes: [1, 0], regions: [0, 0, 0, 8], body: int32s(1, 2) },
      'it has 1 rows, the batch 2',
    ],
    ['no field node', { type: 'int8', rows: 0, nodes: [], regions: [] }, 'its field node is missing'],
    [
      'too many field nodes',
      { type: 'int8', rows: 0, nodes: [0, 0, 0, 0], regions: [0, 0, 0, 0] },
      'it has 2 field nodes, the schema needs 1',
    ],
    [
      'too few buffers',
      { type: 'int8', rows: 0, nodes: [0, 0], regions: [0, 0] },
      'its values buffer is missing',
    ],
    [
      'too many buffers',
      { type: 'int8', rows: 0, nodes: [0, 0], regions: [0, 0, 0, 0, 0, 0] },
      'it has 3 buffers, the schema needs 2',
    ],
    [
      'nulls without a bitmap',
      { type: 'int8', rows: 1, nodes: [1, 1], regions: [0, 0, 0, 8], body: int32s(0) },
      'claims 1 nulls and has no validity buffer',
    ],
    [
      'wrong null count',
      { type: 'int8', rows: 2, nodes: [2, 1], regions: [0, 1, 0, 8], body: int32s(3) },
      'claims 1 nulls and has 0',
    ],
    [
      'falling offsets',
      { type: 'utf8', rows: 2, nodes: [2, 0], regions: [0, 0, 0, 12, 16, 4], body: int32s(0, 3, 2, 0, 0) },
      'offset 2 (2) is less than the one before it (3)',
    ],
    [
      'negative offset',
      { type: 'utf8', rows: 2, nodes: [2, 0], regions: [0, 0, 0, 12, 16, 4], body: int32s(0, -1, 2, 0, 0) },
      'offset 2 (2) is less than the one before it (4294967295)',
    ],
    [
      'offset past the data',
      { type: 'utf8', rows: 1, nodes: [1, 0], regions: [0, 0, 0, 8, 8, 4], body: int32s(0, 5, 0) },
      'data buffer has 4 bytes, 5 are needed',
    ],
    [
      'bad UTF-8',
      {
        type: 'utf8',
        rows: 2,
        nodes: [2, 0],
        regions: [0, 0, 0, 12, 16, 2],
        body: [...int32s(0, 1, 2, 0), 0xc3, 0xa9],
      },
      'row 0 is not valid UTF-8',
    ],
    [
      'list past its child',
      {
        type: list,
        rows: 1,
        nodes: [1, 0, 2, 0],
        regions: [0, 0, 0, 8, 0, 0, 8, 8],
        body: int32s(0, 3, 0, 0),
      },
      '"x".item: it has 2 values, its parent needs 3',
    ],
    [
      'dictionary that never came',
      {
        type: { dictionary: 'utf8', index: 'int8', ordered: false },
        rows: 1,
        nodes: [1, 0],
        regions: [0, 0, 0, 8],
        body: int32s(0),
      },
      'its dictionary 0 has not come yet',
    ],
    [
      'rows out of nothing',
      { type: 'null', rows: 2 ** 40, nodes: [2 ** 40, 2 ** 40], regions: [] },
      'more than 2147483647 rows',
    ],
    [
      'many rows out of nothing',
      { type: 'null', rows: 2 ** 30, nodes: [2 ** 30, 2 ** 30], regions: [] },
      'more than its bytes can hold',
    ],
    [
      'buffers that share their bytes',
      { type: 'int32', rows: 2, nodes: [2, 0], regions: [0, 8, 0, 8], body: int32s(-1, -1) },
      'values buffer overlaps others',
    ],
    [
      'items out of nothing',
      {
        type: { fixed_size_list: { name: 'item', type: 'null', nullable: true }, size: 2 ** 30 },
        rows: 2,
        nodes: [2, 0, 2 ** 31, 0],
        regions: [0, 0],
      },
      'more than the stream can hold',
    ],
  ];
  test.each(cases)('%s', (_, batch, message) => {
    const bytes = stream(batch);
    expect(refusal(bytes)).toContain(message);
    expect(use(bytes)).toBe('refused');
  });

  test('a dictionary index out of range', () => {
    const { bytes } = samples.find((sample) => sample.name === 'dictionary')!;
    const { batches } = readStream(bytes);
    const values = batches[0]!.columns[0]!.values;
    const broken = bytes.slice();
    broken[values.byteOffset - bytes.byteOffset] = 9;
    expect(refusal(broken)).toContain('row 0 has dictionary index 9 of 3 values');
  });
});

describe('schemas that lie', () => {
  const nested = (depth: number): TypeJson =>
    depth === 0 ? 'int8' : { list: { name: 'item', type: nested(depth - 1), nullable: true } };
  const schemaOf = (type: TypeJson): Uint8Array =>
    fieldsToSchemaMessage([{ name: 'x', type, nullable: true }]);

  test('nesting is bounded', () => {
    expect(refusal(schemaOf(nested(63)))).toBe('accepted');
    expect(refusal(schemaOf(nested(64)))).toBe('message 0: types nest more than 64 levels deep');
    expect(refusal(schemaOf(nested(500)))).toBe('message 0: types nest more than 64 levels deep');
  });

  test('columns are bounded', () => {
    const columns = (count: number) =>
      Array.from({ length: count }, (_, i) => ({ name: `c${i}`, type: 'int8', nullable: true }));
    expect(refusal(fieldsToSchemaMessage(columns(4096)))).toBe('accepted');
    expect(refusal(fieldsToSchemaMessage(columns(4097)))).toContain('at most 4096 are allowed');
  });

  test('one field that is everywhere ends at the limit of tables', () => {
    const b = new Builder(1024);
    b.startObject(0);
    const type = b.endObject();
    let field = 0;
    // Each level points twice at the level below: 2^40 fields in 40 tables.
    for (let level = 0; level < 40; level++) {
      b.startVector(4, level === 0 ? 0 : 2, 4);
      if (level > 0) for (let k = 0; k < 2; k++) b.addOffset(field);
      const children = b.endVector();
      b.startObject(7);
      b.addFieldInt8(2, 13, 0);
      b.addFieldOffset(3, type, 0);
      b.addFieldOffset(5, children, 0);
      field = b.endObject();
    }
    b.startVector(4, 1, 4);
    b.addOffset(field);
    const fields = b.endVector();
    b.startObject(4);
    b.addFieldOffset(1, fields, 0);
    expect(refusal(frameMessage(b, MESSAGE_SCHEMA, b.endObject(), 0))).toContain('too many tables');
  });
});
