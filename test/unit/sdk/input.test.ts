import { tableFromArrays } from '@uwdata/flechette';
import * as apache from 'apache-arrow';
import { describe, expect, it } from 'vitest';
import { type CallInput, countedBatch, encodeBatch, sliceBatch, toBatch } from '../../../sdk/input.ts';
import { rowsToStream, streamToColumns } from '../../../shared/arrow/index.ts';
import type { FieldJson } from '../../../shared/domain/function.ts';

const TEXT: FieldJson = { name: 'text', type: 'utf8', nullable: true };
const N: FieldJson = { name: 'n', type: 'int32', nullable: false };

const encoded = async (input: CallInput, fields: readonly FieldJson[] | null = [TEXT]) =>
  encodeBatch(await toBatch(input, async () => fields), async () => fields);

const columnsOf = (body: string | Uint8Array): Record<string, unknown> =>
  typeof body === 'string'
    ? JSON.parse(body).columns
    : Object.fromEntries(Object.entries(streamToColumns(body)).map(([name, values]) => [name, [...values]]));

describe('what a call takes', () => {
  it('is few plain rows, which go as JSON columns', async () => {
    const { isArrow, body } = await encoded([{ text: 'a', n: 1 }, { text: 'b' }], [TEXT, N]);
    expect(isArrow).toBe(false);
    expect(columnsOf(body)).toEqual({ text: ['a', 'b'], n: [1, null] });
  });

  it('is rows of any keys, also those that every object has', async () => {
    const { body } = await encoded([{ text: 'a' }, { text: 'b', constructor: 3 }], null);
    expect(columnsOf(body)).toEqual({ text: ['a', 'b'], constructor: [null, 3] });
  });

  it('is bare values for a function of one input', async () => {
    expect(columnsOf((await encoded(['a', 'b'])).body)).toEqual({ text: ['a', 'b'] });
    await expect(encoded(['a'], [TEXT, N])).rejects.toThrow('Bare values need a function with one input');
  });

  it('is many rows, which go as Arrow in the declared types', async () => {
    const { isArrow, body } = await encoded(
      Array.from({ length: 100 }, (_, n) => ({ n })),
      [N],
    );
    expect(isArrow).toBe(true);
    expect(streamToColumns(body as Uint8Array).n).toEqual(Int32Array.from({ length: 100 }, (_, n) => n));
  });

  it('is numbers that JSON has no text for, which go as Arrow', async () => {
    for (const x of [-0, Number.NaN, Number.POSITIVE_INFINITY]) {
      const { body } = await encoded([{ x }], [{ name: 'x', type: 'float64', nullable: true }]);
      expect(streamToColumns(body as Uint8Array).x).toEqual(Float64Array.of(x));
    }
  });

  it('is checked value by value before it is sent', async () => {
    const rows = Array.from({ length: 100 }, (_, n) => ({ n: n === 70 ? 'seventy' : n }));
    await expect(encoded(rows, [N])).rejects.toThrow('column "n", row 70');
  });

  it('is columns of one length', async () => {
    expect(columnsOf((await encoded({ n: new Int32Array([1, 2]) }, [N])).body)).toEqual({ n: [1, 2] });
    await expect(encoded({ a: [1], b: [1, 2] })).rejects.toThrow('Column "b" has 2 values, "a" has 1');
    await expect(encoded({ a: 3 as never })).rejects.toThrow(
      'Column "a" is number; give an array of its values, or rows as [{ "a": … }].',
    );
  });

  it('is a table of apache-arrow, of flechette, or the bytes of a stream', async () => {
    const inputs: CallInput[] = [
      apache.tableFromArrays({ n: new Int32Array([1, 2, 3]) }) as never,
      tableFromArrays({ n: new Int32Array([1, 2, 3]) }),
      rowsToStream({ n: [1, 2, 3] }, [N]),
    ];
    for (const input of inputs) {
      const { isArrow, body } = await encoded(input, [N]);
      expect(isArrow).toBe(true);
      expect(columnsOf(body)).toEqual({ n: [1, 2, 3] });
    }
  });

  it('is cut by rows, whatever it is', async () => {
    const inputs: CallInput[] = [
      apache.tableFromArrays({ n: new Int32Array([1, 2, 3, 4]) }) as never,
      tableFromArrays({ n: new Int32Array([1, 2, 3, 4]) }),
      rowsToStream({ n: [1, 2, 3, 4] }, [N]),
      { n: [1, 2, 3, 4] },
      [{ n: 1 }, { n: 2 }, { n: 3 }, { n: 4 }],
    ];
    for (const input of inputs) {
      const batch = await countedBatch(await toBatch(input, async () => [N]));
      expect(batch.rows).toBe(4);
      const { body } = await encodeBatch(sliceBatch(batch, 1, 3), async () => [N]);
      expect(columnsOf(body)).toEqual({ n: [2, 3] });
    }
  });

  it('may be no rows', async () => {
    expect(columnsOf((await encoded([])).body)).toEqual({ text: [] });
    expect(columnsOf((await encoded({ text: [] })).body)).toEqual({ text: [] });
  });

  it('is nothing else', async () => {
    await expect(encoded('text' as never)).rejects.toThrow('The rows are string');
    await expect(encoded([{ text: 'a' }, 'b'])).rejects.toThrow('Row 1 is not an object');
  });
});
