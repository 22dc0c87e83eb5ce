import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { RecordBatchFileWriter, tableFromArrays, tableToIPC } from 'apache-arrow';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, describe, expect, it } from 'vitest';
import { openSource, type RowRequest } from '../../../cli/run/row-source.ts';
import { sampledType } from '../../../cli/run/sampled-type.ts';
import { exactJson, rowsToStream, streamToColumns } from '../../../shared/arrow/index.ts';
import type { FieldJson } from '../../../shared/domain/function.ts';

const directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-sources-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const file = (name: string, content: string | Uint8Array | ArrayBuffer): string => {
  const full = path.join(directory, name);
  writeFileSync(full, content instanceof ArrayBuffer ? new Uint8Array(content) : content);
  return full;
};

type Read = { columns: readonly string[]; chunks: Record<string, unknown[]>[] };

const read = async (name: string, request: Partial<RowRequest> = {}): Promise<Read> => {
  const source = await openSource(name);
  const chunks: Read['chunks'] = [];
  const whole = {
    columns: source.columns,
    types: new Map<string, FieldJson>(),
    rowsMax: 1000,
    isWhole: false,
    ...request,
  };
  for await (const bytes of source.rows(whole))
    chunks.push(
      Object.fromEntries(
        Object.entries(streamToColumns(bytes)).map(([column, values]) => [column, [...values]]),
      ),
    );
  expect(source.readShare()).toBeCloseTo(1, 1);
  return { columns: source.columns, chunks };
};

const types = (...fields: FieldJson[]): ReadonlyMap<string, FieldJson> =>
  new Map(fields.map((field) => [field.name, field]));
const field = (name: string, type: FieldJson['type']): FieldJson => ({ name, type, nullable: false });

describe('CSV', () => {
  it('is read in the types that the function takes; other columns are texts', async () => {
    const csv = file('a.csv', '\ufeffid,text,n,x\n1,"a, ""b""",3,0.5\n2,"two\nlines",,nan\n');
    const { columns, chunks } = await read(csv, {
      types: types(field('n', 'int64'), field('x', 'float32'), field('text', 'utf8')),
    });
    expect(columns).toEqual(['id', 'text', 'n', 'x']);
    expect(chunks).toEqual([
      { id: ['1', '2'], text: ['a, "b"', 'two\nlines'], n: [3, null], x: [0.5, Number.NaN] },
    ]);
  });

  it('comes in chunks, of the columns that are asked for', async () => {
    const csv = file('b.csv', `id,text\n${Array.from({ length: 25 }, (_, i) => `${i},t${i}\n`).join('')}`);
    const { chunks } = await read(csv, { columns: ['text'], rowsMax: 10 });
    expect(chunks.map(({ text }) => text!.length)).toEqual([10, 10, 5]);
    expect(Object.keys(chunks[0]!)).toEqual(['text']);
  });

  it('with tabs is TSV, and without rows has its columns', async () => {
    expect((await read(file('c.tsv', 'a\tb\n1\t2\n'))).chunks).toEqual([{ a: ['1'], b: ['2'] }]);
    expect((await read(file('d.csv', 'a,b\n'))).chunks).toEqual([{ a: [], b: [] }]);
  });

  it('has rows with ends of any kind, and cells that hold them', async () => {
    const rows = async (text: string) => (await read(file('ends.csv', text))).chunks.flatMap(({ a }) => a);
    expect(await rows('a\r\nb\nc\r\nd\re\n\n\r\nf')).toEqual(['b', 'c', 'd', 'e', 'f']);
    expect(await rows('a\nb\r\n"c\r\nd"\r\n"e\rf\n"\ng\r\n')).toEqual(['b', 'c\r\nd', 'e\rf\n', 'g']);
    expect(await rows('a\rb\r"c\nd"\r')).toEqual(['b', 'c\nd']);
    // Ends on either side of where the file is read in pieces.
    const long = Array.from({ length: 3000 }, (_, i) => 'x'.repeat(1000 + (i % 7)));
    for (const lead of ['', 'y', 'yy'])
      expect(await rows(`a\n${lead}${long.join('\r\n')}`)).toEqual([`${lead}${long[0]}`, ...long.slice(1)]);
  });

  it('that is wrong is named with its line', async () => {
    const n = types(field('n', 'int32'));
    await expect(read(file('e.csv', 'n,t\n\n1,"a\nb"\nx,"c\nd"\n'), { types: n })).rejects.toThrow(
      /e\.csv, line 5: "x" in column "n"/,
    );
    await expect(read(file('ends.csv', 'n\r\n1\n2\r\n\r\nx\n'), { types: n })).rejects.toThrow(
      /, line 5: "x"/,
    );
    await expect(read(file('f.csv', 'a,b\n1\n'))).rejects.toThrow(/not valid CSV: .*line 2/);
    await expect(read(file('g.csv', ''))).rejects.toThrow('its first line must name the columns');
    const dates = file('h.csv', `d\n${'2024-01-01\n'.repeat(25)}2024-02-30\n`);
    await expect(read(dates, { types: types(field('d', 'date32')), rowsMax: 10 })).rejects.toThrow(
      /h\.csv, line 27: column "d" is "2024-02-30", expected date32 \(YYYY-MM-DD\); correct the line/,
    );
  });

  it('has floats in decimal digits only; a blank is none', async () => {
    const x = types(field('x', 'float64'));
    const texts = ['1e5', '.5', '5.', ' -1.5E-3 ', '+7', 'inf', '-Infinity', '+Infinity', 'NaN', '""'];
    const { chunks } = await read(file('j.csv', `x\n${texts.join('\n')}\n`), { types: x });
    const inf = Number.POSITIVE_INFINITY;
    expect(chunks[0]!.x).toEqual([100_000, 0.5, 5, -0.0015, 7, inf, -inf, inf, Number.NaN, null]);
    for (const text of [' ', '0x10', '0b11', '0o7', '1_000', '1,5', '.', 'e5', '- 1', 'constructor'])
      await expect(read(file('k.csv', `x\n1\n"${text}"\n`), { types: x }), text).rejects.toThrow(
        `k.csv, line 3: "${text}" in column "x" is not of the type "float64"`,
      );
  });

  it('names each column once', async () => {
    await expect(openSource(file('i.csv', 'id,x,x\n1,first,second\n'))).rejects.toThrow(
      'has the column "x" twice',
    );
  });
});

describe('a text file that is not UTF-8', () => {
  const wrong = (bytes: Buffer): RegExp =>
    new RegExp(
      `line ${bytes.toString('latin1').split('\n').length}, is not UTF-8 at byte 4; save it as UTF-8`,
    );

  it.each(['csv', 'jsonl'])('is refused with line and byte (%s)', async (ending) => {
    const text = 'cafés'.repeat(20);
    const row = ending === 'csv' ? `${text},1\n` : `{"a":"${text}"}\n`;
    const long = `${ending === 'csv' ? 'a,b\n' : ''}${row.repeat(12_000)}`;
    expect((await read(file(`whole.${ending}`, `\ufeff${long}`))).chunks.flatMap(({ a }) => a)).toHaveLength(
      12_000,
    );
    const from = Buffer.from(long);
    for (const end of [
      Buffer.from('caf\xe9\n', 'latin1'),
      Buffer.from('caf\xc3', 'latin1'),
      Buffer.from('caf\xff\xfe', 'latin1'),
    ]) {
      const bad = file(`latin.${ending}`, Buffer.concat([from, end]));
      await expect(read(bad)).rejects.toThrow(wrong(Buffer.concat([from, end.subarray(0, 4)])));
    }
    await expect(openSource(file(`utf16.${ending}`, Buffer.from('\ufeffa,b\n', 'utf16le')))).rejects.toThrow(
      'line 1, is not UTF-8 at byte 1',
    );
  });
});

describe('JSON Lines', () => {
  it('is read in the types that the function takes; kept columns as they look', async () => {
    const lines = ['{"id":1,"text":"a","tags":["x"]}', '', '{"id":2,"text":"b","more":true}'];
    const { columns, chunks } = await read(file('a.jsonl', lines.join('\n')), {
      types: types(field('text', 'utf8')),
    });
    expect(columns).toEqual(['id', 'text', 'tags', 'more']);
    expect(chunks).toEqual([{ id: [1, 2], text: ['a', 'b'], tags: [['x'], null], more: [null, true] }]);
  });

  it('that is wrong is named with its line', async () => {
    await expect(read(file('b.jsonl', '{"a":1}\n{"a":\n'))).rejects.toThrow(/line 2, is not JSON/);
    await expect(read(file('c.jsonl', '[1]\n'))).rejects.toThrow(/line 1, is not an object/);
    const changed = Array.from({ length: 1001 }, (_, i) => JSON.stringify({ a: i < 1000 ? i : 'text' })).join(
      '\n\n',
    );
    await expect(read(file('d.jsonl', changed))).rejects.toThrow(/d\.jsonl, line 2001: column "a" is "text"/);
  });

  it('has rows of any keys, also those that every object has', async () => {
    const lines = ['{"text":"a"}', '{"text":"b","constructor":2,"__proto__":{"c":1}}'];
    const { columns, chunks } = await read(file('keys.jsonl', lines.join('\n')));
    expect(columns).toEqual(['text', 'constructor', '__proto__']);
    expect(chunks.map((chunk) => Object.entries(chunk))).toEqual([
      [
        ['text', ['a', 'b']],
        ['constructor', [null, 2]],
        ['__proto__', [null, { c: 1 }]],
      ],
    ]);
  });

  it('keeps the digits of numbers that a double would round', async () => {
    const row = (id: string, wide: string, d: string): string =>
      `{"id":${id},"wide":${wide},"meta":{"id":${id}},"d":${d},"x":0.10000000000000001}\n`;
    const lines = [
      row('9007199254740993', '12345678901234567890123', '90071992547409.93'),
      row('9007199254740995', '1', '1.5'),
    ];
    const { chunks } = await read(file('exact.jsonl', lines.join('')), {
      types: types(field('d', { decimal: [38, 2], bits: 128 })),
    });
    expect(chunks).toEqual([
      {
        id: [9007199254740993n, 9007199254740995n],
        wide: ['12345678901234567890123', '1'],
        meta: [{ id: 9007199254740993n }, { id: 9007199254740995n }],
        d: ['90071992547409.93', '1.50'],
        x: [0.1, 0.1],
      },
    ]);
  });

  it('keeps numbers as json where no type of the sample has their digits', () => {
    const values = '[12345678901234567890.12,1.5]';
    const type = sampledType(exactJson(values).value as unknown[]);
    const stream = rowsToStream({ a: exactJson(values).value as unknown[] }, [field('a', type)]);
    expect(type).toBe('json');
    expect(Buffer.from(stream).includes('12345678901234567890.12')).toBe(true);
  });

  it('refuses what the type of its first rows would round', async () => {
    const late = (first: string, last: string): string =>
      Array.from({ length: 1001 }, (_, i) => `{"x":${i < 1000 ? first : last}}`).join('\n');
    await expect(read(file('rounded.jsonl', late('0.5', '90071992547409.93')))).rejects.toThrow(
      /line 1001: column "x" has 90071992547409\.93, .* would round/,
    );
    await expect(read(file('wide.jsonl', late('1', '9223372036854775808')))).rejects.toThrow(
      /line 1001: column "x" is 9223372036854775808, expected int64/,
    );
  });

  it('may have line separators of Unicode in its texts, and lines longer than what is read at once', async () => {
    const texts = ['a\u2028b', 'x'.repeat(2_500_000), 'last'];
    const jsonl = file('e.jsonl', texts.map((a) => JSON.stringify({ a })).join('\r\n'));
    expect((await read(jsonl)).chunks).toEqual([{ a: texts }]);
  });

  it('with a key that the first rows lack is refused, unless the columns were named', async () => {
    const lines = Array.from({ length: 1201 }, (_, i) =>
      JSON.stringify(i < 1200 ? { a: i } : { a: i, late: 1 }),
    );
    const late = file('late.jsonl', lines.join('\n'));
    await expect(read(late, { isWhole: true })).rejects.toThrow(/line 1201: .*the key "late".*--keep/);
    expect((await read(late)).chunks).toHaveLength(2);
  });
});

const table = tableFromArrays({ id: new Int32Array([1, 2, 3]), text: ['a', 'b', 'a'] });

describe('Arrow and Parquet', () => {
  it('are read alike; dictionaries come as their values', async () => {
    const files = [
      file('a.arrows', tableToIPC(table, 'stream')),
      file('a.arrow', RecordBatchFileWriter.writeAll(table).toUint8Array(true)),
      file(
        'a.parquet',
        parquetWriteBuffer({
          columnData: [
            { name: 'id', data: [1, 2, 3], type: 'INT32' },
            { name: 'text', data: ['a', 'b', 'a'], type: 'STRING' },
          ],
        }),
      ),
    ];
    for (const name of files) {
      expect(await read(name, { rowsMax: 2 })).toEqual({
        columns: ['id', 'text'],
        chunks: [
          { id: [1, 2], text: ['a', 'b'] },
          { id: [3], text: ['a'] },
        ],
      });
      expect((await read(name, { columns: ['text'] })).chunks).toEqual([{ text: ['a', 'b', 'a'] }]);
    }
  });

  it('that are cut off or something else say so', async () => {
    const bytes = tableToIPC(table, 'stream');
    await expect(read(file('b.arrows', bytes.slice(0, bytes.length - 40)))).rejects.toThrow('cut off');
    await expect(read(file('c.arrows', 'this is not Arrow at all'))).rejects.toThrow(
      'cannot be read as Arrow',
    );
    await expect(read(file('none.parquet', ''))).rejects.toThrow(
      'none.parquet cannot be read as Parquet (it has 0 bytes); check that it is whole.',
    );
    await expect(read(file('b.parquet', 'PAR1 this is not Parquet PAR1'))).rejects.toThrow(
      'cannot be read as Parquet',
    );
  });
});

it('a file of another kind, or none, is refused with what there is', async () => {
  await expect(openSource('-')).rejects.toThrow('standard input is not read, write it to a file first');
  await expect(openSource('a.csv.gz')).rejects.toThrow('unpack it first');
  await expect(openSource('a.json')).rejects.toThrow('write an object a line');
  await expect(openSource('a.xlsx')).rejects.toThrow('its name must end in one of .parquet, .csv');
  const bare = file('bare.arrow', RecordBatchFileWriter.writeAll(tableFromArrays({})).toUint8Array(true));
  for (const name of [bare, file('bare.jsonl', '')])
    await expect(openSource(name)).rejects.toThrow(`${name} has no columns; write it with those`);
  await expect(openSource(path.join(directory, 'none.csv'))).rejects.toThrow('ENOENT');
});

it.each(['.csv', '.jsonl', '.arrow', '.parquet'])('only a regular file is read (%s)', async (ending) => {
  const folder = path.join(directory, `folder${ending}`);
  mkdirSync(folder);
  await expect(openSource(folder)).rejects.toThrow(`--input ${folder} is a directory; give one file`);
  const pipe = path.join(directory, `pipe${ending}`);
  execFileSync('mkfifo', [pipe]);
  await expect(openSource(pipe)).rejects.toThrow(`--input ${pipe} is a pipe or a device`);
});
