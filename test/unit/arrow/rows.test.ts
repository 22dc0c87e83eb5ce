/** Whatever way rows are cut and joined again, they come out as one cut would have given them. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  buildInput,
  jsonToPayload,
  matchInputs,
  openStream,
  type ResultPart,
  readStream,
  resultArrow,
  resultJson,
  rowsToStream,
  sliceStream,
  streamToColumns,
} from '../../../shared/arrow/index.ts';
import type { FieldJson, TypeJson } from '../../../shared/domain/function.ts';
import { inBatches, SAMPLE_ROWS, samples } from './samples.ts';

const fields: readonly FieldJson[] = [
  { name: 'id', type: 'int64', nullable: false },
  { name: 'text', type: 'utf8', nullable: true },
  { name: 'flag', type: 'bool', nullable: true },
  { name: 'values', type: { large_list: { name: 'item', type: 'float64', nullable: true } }, nullable: true },
  { name: 'kind', type: { dictionary: 'utf8', index: 'int8', ordered: false }, nullable: true },
];

const row = fc.record({
  id: fc.integer(),
  text: fc.option(fc.string({ unit: 'grapheme' })),
  flag: fc.option(fc.boolean()),
  values: fc.option(
    fc.array(fc.option(fc.double({ noNaN: true, noDefaultInfinity: true }), { freq: 9 }), { maxLength: 4 }),
  ),
  kind: fc.option(fc.constantFrom('a', 'b', 'ç')),
});
type Row = Record<string, unknown>;

const columnsOf = (rows: readonly Row[]): Record<string, unknown[]> =>
  Object.fromEntries(fields.map(({ name }) => [name, rows.map((r) => r[name])]));

/** Rows of streams, one after the other, as plain values. */
function rowsOf(streams: readonly Uint8Array[]): Row[] {
  return streams.flatMap((bytes) => {
    const columns = streamToColumns(bytes);
    const count = readStream(bytes).rows;
    return Array.from({ length: count }, (_, i) =>
      Object.fromEntries(
        Object.entries(columns).map(([name, values]) => {
          const value = values[i];
          return [name, ArrayBuffer.isView(value) ? [...(value as Float64Array)] : (value ?? null)];
        }),
      ),
    );
  });
}

/** -0 is 0 in JSON. */
const normal = (rows: readonly unknown[]): unknown => JSON.parse(JSON.stringify(rows));

/** Cuts [0, rows) at random places. */
const runs = (rows: number, cuts: readonly number[]): { from: number; count: number }[] => {
  const edges = [...new Set([0, ...cuts.map((cut) => cut % (rows + 1)), rows])].sort((a, b) => a - b);
  return edges.slice(1).map((end, i) => ({ from: edges[i]!, count: end - edges[i]! }));
};

const table = fc.tuple(
  fc.array(row, { maxLength: 40 }),
  fc.array(fc.nat(40), { maxLength: 6 }),
  fc.array(fc.nat(40), { maxLength: 6 }),
);

describe('rows', () => {
  test('slices of slices join to the original', () => {
    fc.assert(
      fc.property(table, ([rows, cuts, inner]) => {
        const stream = readStream(rowsToStream(columnsOf(rows), fields));
        const parts = runs(rows.length, cuts).flatMap(({ from, count }) => {
          const part = readStream(sliceStream(stream, from, count));
          return runs(count, inner).map((run) => sliceStream(part, run.from, run.count));
        });
        expect(normal(rowsOf(parts))).toEqual(normal(rows));
      }),
      { numRuns: 300 },
    );
  });

  test('JSON and Arrow payloads give the handler the rows in order', () => {
    fc.assert(
      fc.property(
        table,
        fc.array(fc.boolean(), { minLength: 8, maxLength: 8 }),
        ([rows, cuts, inner], kinds) => {
          const parts = runs(rows.length, cuts).flatMap(({ from, count }, i) => {
            const own = rows.slice(from, from + count);
            const payload = kinds[i % 8]
              ? jsonToPayload({ rows: own }, fields).payload
              : { kind: 'arrow' as const, bytes: rowsToStream(columnsOf(own), fields) };
            return runs(count, inner).map((run) => ({ payload, ...run }));
          });
          const streams = buildInput(parts, fields).map((stream) => stream.bytes);
          for (const bytes of streams)
            expect(matchInputs(readStream(bytes), fields)).toEqual({ schemaKey: '' });
          expect(normal(rowsOf(streams))).toEqual(normal(rows));
        },
      ),
      { numRuns: 300 },
    );
  });

  test('results in random parts of random outputs are the values in row order', () => {
    const value = fc.option(fc.array(fc.integer(), { maxLength: 3 }));
    const type: TypeJson = { list: { name: 'item', type: 'int32', nullable: true } };
    const output = { type, nullable: true };
    fc.assert(
      fc.property(
        fc.array(fc.tuple(value, fc.nat(9))),
        fc.array(fc.nat(60), { maxLength: 8 }),
        (cells, cuts) => {
          const expected = cells.map(([v, dice]) => (dice === 0 ? null : v));
          const parts: ResultPart[] = [];
          for (const { from, count } of runs(cells.length, cuts)) {
            const values = cells.slice(from, from + count).map(([v]) => v);
            // The batch holds other calls' rows around these.
            const bytes = inBatches(
              rowsToStream({ result: [[9], ...values, null] }, [{ name: 'result', type, nullable: true }]),
            );
            for (let i = 0; i < count; i++)
              parts.push(
                cells[from + i]![1] === 0
                  ? {
                      state: 'failed',
                      from: from + i,
                      count: 1,
                      error: { code: 'handler_error', message: `${from + i}` },
                    }
                  : { state: 'ok', from: from + i, count: 1, output: { bytes }, outputRow: i + 1 },
              );
          }
          const json = resultJson(parts, output);
          expect(JSON.parse(`[${json.values}]`)).toEqual(expected);
          const failed = cells.flatMap(([, dice], i) => (dice === 0 ? [i] : []));
          expect(json.errors.map((error) => [error.from, error.count])).toEqual(failed.map((i) => [i, 1]));
          const arrow = rowsOf([Buffer.concat([...resultArrow(parts, output)])]);
          expect(arrow.map((r) => r.result)).toEqual(expected);
          expect(arrow.flatMap((r, i) => (r.error ? [i] : []))).toEqual(failed);
        },
      ),
      { numRuns: 150 },
    );
  });
});

describe('buffers', () => {
  test.each(samples)('$name in shared memory and at odd addresses reads the same', ({ bytes, type }) => {
    const output = { type, nullable: true };
    const text = (b: Uint8Array): string =>
      resultJson([{ state: 'ok', from: 0, count: SAMPLE_ROWS, output: { bytes: b }, outputRow: 0 }], output)
        .values;
    for (const shift of [0, 1, 4]) {
      const shared = new Uint8Array(new SharedArrayBuffer(bytes.length + shift), shift);
      shared.set(bytes);
      expect(readStream(shared).rows).toBe(SAMPLE_ROWS);
      expect(text(shared)).toBe(text(bytes));
      const [a, b] = [sliceStream(readStream(shared), 1, 3), sliceStream(readStream(bytes), 1, 3)];
      expect(Buffer.compare(a, b)).toBe(0);
      expect(JSON.stringify(streamToColumns(shared), replacer)).toBe(
        JSON.stringify(streamToColumns(bytes), replacer),
      );
    }
  });

  test('a Buffer is read without being changed', () => {
    for (const { bytes } of samples) {
      const buffer = Buffer.from(bytes);
      const stream = readStream(buffer);
      for (let from = 0; from < SAMPLE_ROWS; from++) sliceStream(stream, from, SAMPLE_ROWS - from);
      expect(Buffer.compare(buffer, bytes)).toBe(0);
    }
  });

  test('bits of rows outside of a slice do not go along', () => {
    const flags = rowsToStream({ a: [true, null, true, null, true, true, true, true, true, true] });
    const { columns } = readStream(sliceStream(readStream(flags), 0, 3)).batches[0]!;
    expect([columns[0]!.validity?.[0], columns[0]!.values[0]]).toEqual([0b101, 0b101]);
  });

  test('whole batches and whole payloads pass without a copy', () => {
    const values = Float64Array.from({ length: 20_000 }, (_, i) => i);
    const bytes = rowsToStream({ result: values });
    const output = { type: 'float64', nullable: true };
    const part: ResultPart = { state: 'ok', from: 0, count: 20_000, output: { bytes }, outputRow: 0 };
    const chunks = [...resultArrow([part], output)];
    expect(chunks.some((chunk) => chunk.buffer === bytes.buffer && chunk.length > 160_000)).toBe(true);
    const mixed = [...resultArrow([part, { state: 'pending', from: 20_000, count: 1 }], output)];
    expect(mixed.some((chunk) => chunk.buffer === bytes.buffer && chunk.length === 160_000)).toBe(true);
    const fields = openStream(bytes).fields;
    const payload = { kind: 'arrow' as const, bytes };
    const [whole, part20] = [20_000, 20].map(
      (count) => buildInput([{ payload, from: 0, count }], fields)[0]!,
    );
    expect(whole!.bytes).toBe(bytes);
    expect(part20!.pieces.some((piece) => piece.buffer === bytes.buffer)).toBe(true);
    expect(part20!.byteLength).toBe(part20!.bytes.length);
  });
});

const replacer = (_: string, value: unknown): unknown =>
  typeof value === 'bigint' ? `${value}n` : value instanceof Map ? [...value] : value;
