/** What pyarrow reads of the Parquet files that `sluice run` writes. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { readStream, rowsToStream, sliceStream } from '../../../shared/arrow/index.ts';
import type { FieldJson, TypeJson } from '../../../shared/domain/function.ts';
import { writeParquetFile } from '../../../shared/parquet/writer.ts';

const directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-parquet-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const READ = `
import json, sys, pyarrow.parquet as pq
table = pq.read_table(sys.argv[1])
print(json.dumps([{f.name: str(f.type) for f in table.schema}, table.to_pylist()], default=str))
`;

type Found = readonly [Record<string, string>, readonly Record<string, unknown>[]];

const written = async (name: string, parts: readonly Uint8Array[]): Promise<Found> => {
  const file = path.join(directory, name);
  async function* all(): AsyncGenerator<Uint8Array> {
    yield* parts;
  }
  await writeParquetFile(all(), file);
  const python = path.join(import.meta.dirname, '../../../.venv/bin/python');
  return JSON.parse(execFileSync(python, ['-c', READ, file], { encoding: 'utf8' })) as Found;
};

const field = (name: string, type: TypeJson): FieldJson => ({ name, type, nullable: true });
const SECONDS: TypeJson = { timestamp: 's', tz: null };

const CASES: readonly (readonly [FieldJson, unknown, string, unknown])[] = [
  [field('s', SECONDS), '2024-02-29T01:02:03', 'timestamp[ms]', '2024-02-29 01:02:03'],
  [
    field('utc', { timestamp: 's', tz: 'UTC' }),
    '2024-02-29T01:02:03Z',
    'timestamp[ms, tz=UTC]',
    '2024-02-29 01:02:03+00:00',
  ],
  [field('time', { time: 's' }), '01:02:03', 'time32[ms]', '01:02:03'],
  [field('date64', 'date64'), '2024-02-29', 'timestamp[ms]', '2024-02-29 00:00:00'],
  [
    field('list', { list: field('item', SECONDS) }),
    ['2024-02-29T01:02:03', null],
    'list<item: timestamp[ms]>',
    ['2024-02-29 01:02:03', null],
  ],
  [
    field('struct', { struct: [field('a', 'date64'), field('b', { time: 's' })] }),
    { a: '2024-02-29', b: null },
    'struct<a: timestamp[ms], b: time32[ms]>',
    { a: '2024-02-29 00:00:00', b: null },
  ],
  [field('word', { dictionary: 'utf8', index: 'int32', ordered: false }), 'a', 'string', 'a'],
  [field('date', 'date32'), '2024-02-29', 'date32[day]', '2024-02-29'],
  [
    field('ns', { timestamp: 'ns', tz: null }),
    '2024-02-29T01:02:03.123456789',
    'timestamp[ns]',
    '2024-02-29 01:02:03.123456789',
  ],
  [
    field('price', { decimal: [38, 2], bits: 128 }),
    '12345678901234567890.12',
    'decimal128(38, 2)',
    '12345678901234567890.12',
  ],
];

it('Parquet has times, dates and values of dictionaries as what they are, from every part', async () => {
  const fields = CASES.map(([one]) => one);
  const part = rowsToStream(
    Object.fromEntries(CASES.map(([{ name }, value]) => [name, [value, null]])),
    fields,
  );
  const empty = sliceStream(readStream(part), 0, 0);
  const types = Object.fromEntries(CASES.map(([{ name }, , type]) => [name, type]));
  const row = Object.fromEntries(CASES.map(([{ name }, , , value]) => [name, value]));
  const nulls = Object.fromEntries(fields.map(({ name }) => [name, null]));
  expect(await written('two.parquet', [part, part])).toEqual([types, [row, nulls, row, nulls]]);
  expect(await written('none.parquet', [empty])).toEqual([types, []]);
});
