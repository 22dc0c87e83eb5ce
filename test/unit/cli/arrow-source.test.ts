/** Files of pyarrow and Polars, whose layouts differ from those of the JavaScript libraries. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openSource } from '../../../cli/run/row-source.ts';
import { streamToColumns } from '../../../shared/arrow/index.ts';
import { PYTHON } from '../../support/sluice-process.ts';

const directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-arrow-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const SCRIPT = `
import sys, datetime as dt
import polars as pl, pyarrow as pa, pyarrow.ipc as ipc
long = "a text that is longer than a view"
df = pl.DataFrame({
    "x": ["a", None, long], "c": ["u", "v", None], "l": [["p", long], None, []], "b": [b"ab", b"\\xff", None],
}).with_columns(pl.col("c").cast(pl.Categorical), s=pl.struct("x", n=pl.lit(2**60)), t=pl.lit(dt.datetime(2024, 1, 1)))
df.write_ipc("polars.arrow")
df.write_ipc("polars-zstd.arrow", compression="zstd")
df.write_ipc_stream("polars.arrows")
df.head(0).write_ipc("empty.arrow")
union = pa.UnionArray.from_sparse(pa.array([0, 1, 0], pa.int8()), [pa.array([1, 2, 3]), pa.array(["a", "b", "c"])])
table = pa.table({"x": [1, 2, 3], "u": union, "r": pa.RunEndEncodedArray.from_arrays([2, 3], [1, 2])})
for name, write in [("union.arrow", ipc.new_file), ("union.arrows", ipc.new_stream)]:
    with write(name, table.schema) as writer: writer.write_table(table)
`;
beforeAll(() => void execFileSync(PYTHON, ['-c', SCRIPT], { cwd: directory }));

const read = async (name: string, wanted?: readonly string[]): Promise<Record<string, unknown[]>> => {
  const source = await openSource(path.join(directory, name));
  const out: Record<string, unknown[]> = {};
  const columns = wanted ?? source.columns;
  for await (const bytes of source.rows({ columns, types: new Map(), rowsMax: 2, isWhole: false }))
    for (const [column, values] of Object.entries(streamToColumns(bytes)))
      out[column] = [...(out[column] ?? []), ...values];
  return out;
};

const LONG = 'a text that is longer than a view';

it.each(['polars.arrow', 'polars-zstd.arrow', 'polars.arrows'])(
  'views come as their values, also inside of lists, structs and dictionaries (%s)',
  async (name) => {
    const n = 2n ** 60n;
    expect(await read(name)).toEqual({
      x: ['a', null, LONG],
      c: ['u', 'v', null],
      l: [['p', LONG], null, []],
      b: [new Uint8Array([97, 98]), new Uint8Array([255]), null],
      s: [
        { x: 'a', n },
        { x: null, n },
        { x: LONG, n },
      ],
      t: Array(3).fill(new Date('2024-01-01T00:00:00Z')),
    });
  },
);

it('views without rows keep their columns', async () => {
  expect(await read('empty.arrow')).toEqual({ x: [], c: [], l: [], b: [], s: [], t: [] });
});

it.each(['union.arrow', 'union.arrows'])(
  'a type that is not supported is named where its column is used, and hurts nobody else (%s)',
  async (name) => {
    expect(await read(name, ['x'])).toEqual({ x: [1, 2, 3] });
    await expect(read(name)).rejects.toThrow(
      new RegExp(`${name}: .*field "u" has the type union, which is not supported; cast it first`),
    );
  },
);
