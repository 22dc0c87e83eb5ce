/** Arrow as rows of a call: of any copy of any library, whole, cut and picked, its values are the bytes that they were. */
import { createRequire } from 'node:module';
import { type ExtractionOptions, tableFromIPC } from '@uwdata/flechette';
import * as imported from 'apache-arrow';
import { describe, expect, it } from 'vitest';
import {
  type CallInput,
  countedBatch,
  encodeBatch,
  pickRows,
  sliceBatch,
  toBatch,
} from '../../../sdk/input.ts';
import { pickedStream, type RowRun, readStreamOnce, streamToColumns } from '../../../shared/arrow/index.ts';
import type { TypeJson } from '../../../shared/domain/function.ts';
import { inBatches, SAMPLE_ROWS, samples } from '../arrow/samples.ts';

/** The same version, loaded a second time: another copy, as a caller's own is. */
const required = createRequire(import.meta.url)('apache-arrow') as typeof imported;
const copies = [imported, required];

const NONE = async (): Promise<null> => null;
const batchOf = (input: unknown) => toBatch(input as CallInput, NONE);
const bodyOf = async (batch: Awaited<ReturnType<typeof batchOf>>) =>
  (await encodeBatch(batch, NONE)).body as Uint8Array;
const sent = async (input: unknown) => bodyOf(await batchOf(input));

/** Rows of a stream in one form, whatever its batches, its dictionaries, and its names for a map's members. */
const rowsOf = (bytes: Uint8Array, type: TypeJson, runs: readonly RowRun[]): string => {
  readStreamOnce(bytes);
  const picked = pickedStream({ streams: [bytes], runs }, [{ name: 'result', type, nullable: true }]);
  return Buffer.from(picked).toString('base64');
};

const isMap = (type: TypeJson): boolean => typeof type !== 'string' && 'map' in type;
const rows = (from: number, count: number): readonly RowRun[] => [{ from, count }];
const ALL = rows(0, SAMPLE_ROWS);

const READ_AS: readonly ExtractionOptions[] = [
  {},
  { useDate: true, useMap: true },
  { useBigInt: true, useDecimalInt: true },
];

/** What a stream may be given as. */
const inputsOf = (bytes: Uint8Array): readonly unknown[] => [
  bytes,
  ...READ_AS.map((options) => tableFromIPC(bytes, options)),
  ...copies.map((copy) => copy.tableFromIPC(bytes)),
];

describe.each(samples)('a column of $name', ({ bytes: whole, type }) => {
  const bytes = inBatches(whole);

  it('goes as it is', async () => {
    for (const input of inputsOf(bytes)) {
      const body = await sent(input);
      expect(rowsOf(body, type, ALL)).toBe(rowsOf(bytes, type, ALL));
      if (!isMap(type)) expect(readStreamOnce(body).fields).toEqual(readStreamOnce(bytes).fields);
    }
  });

  it('is cut and picked without a change', async () => {
    for (const input of inputsOf(bytes)) {
      const batch = await countedBatch(await batchOf(input));
      expect(batch.rows).toBe(SAMPLE_ROWS);
      const cut = sliceBatch(batch, 1, 5);
      expect(rowsOf(await bodyOf(cut), type, rows(0, 4))).toBe(rowsOf(bytes, type, rows(1, 4)));
      const picked = await bodyOf(await pickRows(cut, [0, 2, 3]));
      expect(rowsOf(picked, type, rows(0, 3))).toBe(rowsOf(bytes, type, [...rows(1, 1), ...rows(3, 2)]));
    }
  });

  it('may be what its library has cut already', async () => {
    for (const copy of copies) {
      const body = await sent(copy.tableFromIPC(whole).slice(1, 4));
      expect(rowsOf(body, type, rows(0, 3))).toBe(rowsOf(whole, type, rows(1, 3)));
    }
  });
});

describe('a table of another copy of apache-arrow', () => {
  it('has other classes', () => {
    expect(required.Table).not.toBe(imported.Table);
  });

  it('goes with its dictionaries, in each of its batches', async () => {
    for (const copy of copies) {
      const type = new copy.Dictionary(new copy.Utf8(), new copy.Int32(), 7);
      const [a, b] = [
        ['a', 'b', null],
        ['x', 'b'],
      ].map((texts) => copy.vectorFromArray(texts, type));
      const table = new copy.Table({ text: a!.concat(b!), other: b!.concat(a!) });
      const texts = { text: ['a', 'b', null, 'x', 'b'], other: ['x', 'b', 'a', 'b', null] };
      expect(streamToColumns(await sent(table))).toEqual(texts);
      expect(streamToColumns(await sent(copy.tableFromArrays({ n: ['a', 'b'] })))).toEqual({ n: ['a', 'b'] });
    }
  });

  it('goes with what it says of its fields', async () => {
    for (const copy of copies) {
      const metadata = new Map([['ARROW:extension:name', 'arrow.opaque']]);
      const schema = new copy.Schema([new copy.Field('x', new copy.Int8(), true, metadata)]);
      const { data } = copy.tableFromArrays({ x: Int8Array.of(1) }).batches[0]!;
      const body = await sent(new copy.Table(schema, new copy.RecordBatch(schema, data)));
      expect(() => readStreamOnce(body)).toThrow('extension type arrow.opaque');
    }
  });

  it('is refused where no function takes its types', async () => {
    for (const copy of copies) {
      const type = new copy.IntervalYearMonth();
      const table = new copy.Table({ x: copy.vectorFromArray([Int32Array.of(1)], type) });
      await expect(sent(table)).rejects.toThrow(
        'field "x" has the type Interval<YEAR_MONTH>, which is not supp',
      );
    }
  });
});
