/** Row groups that are read by their pages, against pyarrow's reading of the same files; and what that takes of memory. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, openAsBlob, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { asyncBufferFromFile, parquetMetadataAsync, parquetSchema } from 'hyparquet';
import { afterAll, describe, expect, it } from 'vitest';
import {
  checkReadable,
  largeBatches,
  largeRowGroup,
  type RowGroupLimits,
} from '../../../cli/run/large-row-group.ts';
import { joinStreams } from '../../../cli/run/row-streams.ts';
import { selectColumns } from '../../../sdk/table.ts';
import { openParquet } from '../../../shared/parquet/reader.ts';
import { PYTHON } from '../../support/sluice-process.ts';

const directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-row-groups-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const python = (script: string): string =>
  execFileSync(PYTHON, ['-c', script], { cwd: directory, encoding: 'utf8' });

/** A window is a few pages of some hundred bytes. */
const LIMITS: RowGroupLimits = {
  wholeBytesMax: 1000,
  smallBytesMax: 300,
  windowBytes: 4000,
  refusedBytesMin: 10 ** 9,
};

const WRITE = `
import datetime as dt, decimal, itertools, random
import pyarrow as pa, pyarrow.parquet as pq
random.seed(7)
n = 500
def column(value, type, nulls=0.1):
    return pa.array([None if random.random() < nulls else value(i) for i in range(n)], type)
day = dt.datetime(2024, 1, 1)
text = lambda i: f"row {i} " + "x" * random.randrange(60)
struct = pa.struct({"a": pa.int32(), "b": pa.string()})
flat = {
    "int64": column(lambda i: i * 2**40 - 5, pa.int64()), "required": column(lambda i: i, pa.int32(), 0),
    "uint8": column(lambda i: i % 256, pa.uint8()), "uint64": column(lambda i: 2**64 - 1 - i, pa.uint64()),
    "int16": column(lambda i: i - 250, pa.int16()), "half": column(lambda i: float(i % 100), pa.float16()),
    "float": column(lambda i: i / 8, pa.float32()), "double": column(lambda i: i / 3, pa.float64()),
    "bool": column(lambda i: i % 3 == 0, pa.bool_()), "text": column(text, pa.string()),
    "large": column(text, pa.large_string()), "bytes": column(lambda i: bytes([i % 256]) * (i % 9), pa.binary()),
    "fixed": column(lambda i: i.to_bytes(4, "big"), pa.binary(4)), "few": column(lambda i: f"v{i % 7}", pa.string()),
    "decimal": column(lambda i: decimal.Decimal(i) / 100, pa.decimal128(20, 2)),
    "date": column(lambda i: (day + dt.timedelta(days=i)).date(), pa.date32()),
    "time": column(lambda i: dt.time(i % 24, i % 60, 0, i), pa.time64("us")),
    "stamp": column(lambda i: day + dt.timedelta(microseconds=i), pa.timestamp("us", "Europe/Berlin")),
    "duration": column(lambda i: dt.timedelta(milliseconds=i), pa.duration("ms")),
    "category": column(lambda i: f"c{i % 5}", pa.string()).dictionary_encode(), "null": pa.nulls(n),
    "mostly null": column(text, pa.string(), 0.99),
}
nested = {
    "vector": column(lambda i: [i + k / 4 for k in range(24)], pa.list_(pa.float32())),
    "same size": column(lambda i: [i, i + 1, i + 2], pa.list_(pa.int32(), 3)),
    "words": column(lambda i: [None if k == 1 else text(i) for k in range(random.randrange(6))], pa.list_(pa.string())),
    "deep": column(lambda i: [[i] * random.randrange(4) for _ in range(random.randrange(4))], pa.list_(pa.list_(pa.int64()))),
    "long": column(lambda i: [i] * (900 if i % 200 == 3 else i % 2), pa.list_(pa.int64()), 0),
    "struct": column(lambda i: {"a": i, "b": text(i)}, struct), "one": column(lambda i: {"a": text(i)}, pa.struct({"a": pa.string()})),
    "structs": column(lambda i: [{"a": i, "b": "s"}] * (i % 3), pa.list_(struct)),
    "map": column(lambda i: [("k", i)] * (i % 2), pa.map_(pa.string(), pa.int32())),
}
table = pa.table(flat | nested)
codecs = ["none", "snappy", "gzip", "zstd", "brotli", "lz4"]
for number, (codec, version, dictionary) in enumerate(itertools.product(codecs, ["1.0", "2.0"], [True, False])):
    pq.write_table(
        table, f"{codec}-v{version[0]}-{'dictionary' if dictionary else 'plain'}.parquet", compression=codec, data_page_version=version,
        use_dictionary=dictionary, data_page_size=600, write_batch_size=16, dictionary_pagesize_limit=5000,
        row_group_size=[n, 215][number % 2], write_page_index=number % 3 == 0, write_page_checksum=number % 4 == 1,
    )
`;

const COMPARE = `
import glob, pyarrow as pa, pyarrow.parquet as pq
files = sorted(glob.glob("*.parquet"))
for file in files:
    want = pq.read_table(file)
    got = pa.ipc.open_stream(file + ".arrows").read_all()
    assert sorted(got.column_names) == sorted(want.column_names), file
    for name in want.column_names:
        a, b = want[name], got[name]
        if pa.types.is_dictionary(a.type): a = a.cast(a.type.value_type)
        assert a.type == b.type, (file, name, a.type, b.type)
        assert a.to_pylist() == b.to_pylist(), (file, name)
print(len(files))
`;

const readInPieces = async (file: string): Promise<{ batches: number; paged: number }> => {
  const metadata = await parquetMetadataAsync(await asyncBufferFromFile(file));
  const names = parquetSchema(metadata).children.map(({ element }) => element.name);
  const selection = names.map((column) => ({ column, as: column }));
  const blob = await openAsBlob(file);
  const parquet = await openParquet(blob);
  const streams: Uint8Array[] = [];
  let paged = 0;
  for (const group of metadata.row_groups.keys()) {
    const large = largeRowGroup(metadata, group, names, LIMITS)!;
    paged += large.columns.filter((column) => column.paged !== null).length;
    for await (const { rows, stream } of largeBatches(blob, parquet, large, 70, LIMITS)) {
      expect(rows).toBeLessThanOrEqual(70);
      streams.push(selectColumns(stream, selection));
    }
  }
  parquet.close();
  writeFileSync(`${file}.arrows`, joinStreams(streams));
  return { batches: streams.length, paged: paged / metadata.row_groups.length };
};

describe('a row group that is read by its pages', () => {
  it('has the rows that pyarrow reads, of any type, encoding, compression and version of pages', async () => {
    python(WRITE);
    for (const name of readdirSync(directory)) {
      const { paged, batches } = await readInPieces(path.join(directory, name));
      expect({ name, paged }).toEqual({ name, paged: name.startsWith('lz4') ? 23 : 28 });
      expect(batches).toBeGreaterThanOrEqual(Math.ceil(500 / 70));
    }
    expect(python(COMPARE).trim()).toBe('24');
  });

  it('ends the run before the first call where a part is too large that must be read at once', async () => {
    const file = path.join(directory, 'snappy-v1-plain.parquet');
    const metadata = await parquetMetadataAsync(await asyncBufferFromFile(file));
    const blob = await openAsBlob(file);
    const check = (column: string, refusedBytesMin: number): Promise<void> =>
      checkReadable(file, blob, largeRowGroup(metadata, 0, [column], LIMITS)!, {
        ...LIMITS,
        refusedBytesMin,
      });
    await expect(check('struct', 2000)).rejects.toThrow(
      /snappy-v1-plain\.parquet: the column "struct" .* row group 0 .* 1 MiB.*row_group_size.*Arrow or JSON Lines/,
    );
    await expect(check('text', 300)).rejects.toThrow(/the column "text" has a page in row group 0/);
    await expect(check('struct', 100_000)).resolves.toBeUndefined();
    await expect(check('text', 5000)).resolves.toBeUndefined();
  });
});

const READ = `
import { readFileSync } from 'node:fs';
import { openSource } from ${JSON.stringify(path.resolve('cli/run/row-source.ts'))};
const source = await openSource(process.argv[1]);
let rows = 0;
for await (const _ of source.rows({ columns: source.columns, types: new Map(), rowsMax: 1000, isWhole: true })) rows += 1000;
const peak = /VmHWM:\\s+(\\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))[1];
console.log(JSON.stringify({ rows, peakMib: Number(peak) / 1024 }));
`;

it.runIf(process.platform === 'linux')(
  'takes no memory with the size of the row group',
  () => {
    python(`
import random, pyarrow as pa, pyarrow.parquet as pq
texts = pa.array([random.randbytes(2048).hex() for _ in range(50_000)])
ids = pa.array(range(50_000))
pq.write_table(pa.table({"id": ids, "text": texts}), "text.parquet")
both = pa.StructArray.from_arrays([ids, texts], ["id", "text"])
pq.write_table(pa.table({"both": both}), "struct.parquet", write_page_index=True)
assert pq.read_metadata("text.parquet").num_row_groups == 1
`);
    for (const file of ['text.parquet', 'struct.parquet']) {
      const node = ['--input-type=module', '-e', READ, file];
      const read = JSON.parse(execFileSync(process.execPath, node, { cwd: directory, encoding: 'utf8' })) as {
        rows: number;
        peakMib: number;
      };
      expect(read.rows).toBe(50_000);
      // 260 MiB, of which Node takes 100; as a whole the row group takes 1000 MiB.
      expect(read.peakMib).toBeLessThan(500);
    }
  },
  60_000,
);
