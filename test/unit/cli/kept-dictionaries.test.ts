/** Columns with dictionaries, wherever they stand in a type: the output has exactly their values. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { writeOutput } from '../../../cli/run/output-file.ts';
import { openSource } from '../../../cli/run/row-source.ts';
import { PYTHON } from '../../support/sluice-process.ts';

const directory = mkdtempSync(path.join(os.tmpdir(), 'sluice-dictionaries-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const PLAIN = `
import sys, decimal
import pyarrow as pa, pyarrow.ipc as ipc, pyarrow.parquet as pq
D = decimal.Decimal
numbers = {
    "us": pa.timestamp("us", "UTC"), "ns": pa.timestamp("ns"), "d": pa.duration("ns"), "i": pa.int64(), "u": pa.uint64(),
}
wide = [1700000000123456789, 1700000000123456788, None, 1700000000123456789]
plain = {name: pa.array(wide, pa.int64()).cast(type) for name, type in numbers.items()}
plain |= {
    "s": pa.array([1700000001, -3, None, 1700000001], pa.timestamp("s")),
    "ms": pa.array([1700000000123, -3, None, -3], pa.timestamp("ms")),
    "t": pa.array([86399999999999, 1, None, 1], pa.time64("ns")),
    "d64": pa.array([86400000, -86400000, None, 0], pa.date64()),
    "d32": pa.array([1, -1, None, 1], pa.date32()),
    "dec": pa.array([D("12345678901234567890.123456789"), D("-0.000000001"), None, D(1)], pa.decimal128(38, 9)),
    "dec256": pa.array([D(f"{10**40}.12345"), D(-1), None, D(1)], pa.decimal256(60, 5)),
    "b": pa.array([b"\\xff\\x00", b"", None, b"\\xff\\x00"], pa.large_binary()),
    "f": pa.array([b"ab", b"\\xff\\x00", None, b"ab"], pa.binary(2)),
    "x": pa.array(["\\ufeffa", "", None, "\\ufeffa"]),
    "half": pa.array([0.1, 2.0, None, 2.0], pa.float64()).cast(pa.float16()),
    "z": pa.array([float("nan"), -0.0, None, -0.0]),
}
encoded = {name: column.dictionary_encode() for name, column in plain.items()}
nested = {"l": [["u", None], ["v", "u"], None, []], "k": [{"d": "u"}, {"d": None}, None, {"d": "w"}], "m": [[("a", "u")], [], None, [("b", None)]]}
word = pa.dictionary(pa.uint16(), pa.string())
for name, type in [("l", pa.list_), ("k", lambda item: pa.struct([("d", item)])), ("m", lambda item: pa.map_(pa.string(), item))]:
    plain[name] = pa.array(nested[name], type(pa.string()))
    encoded[name] = pa.array(nested[name], type(word))
`;

const WRITE = `${PLAIN}
table = pa.table(encoded)
with ipc.new_file("in.arrow", table.schema) as writer: writer.write_table(table, max_chunksize=3)
# Batches with dictionaries of their own, and one that goes on with the dictionary before it.
with ipc.new_stream("in.arrows", table.schema) as writer:
    for from_ in (0, 2):
        part = {name: plain[name][from_:from_ + 2] for name in plain}
        writer.write_table(pa.table({name: column.dictionary_encode() if pa.types.is_dictionary(encoded[name].type) else encoded[name][from_:from_ + 2] for name, column in part.items()}))
deltas = ipc.IpcWriteOptions(emit_dictionary_deltas=True)
schema = pa.schema([("x", pa.dictionary(pa.int32(), pa.string()))])
with ipc.new_stream("deltas.arrows", schema, options=deltas) as writer:
    for indices, words in [([0, 1], ["\\ufeffa", ""]), ([None, 2, 0], ["\\ufeffa", "", "c"])]:
        column = pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(words))
        writer.write_batch(pa.record_batch([column], schema=schema))
pq.write_table(table.drop_columns(["half", "f", "dec", "dec256"]), "in.parquet")
`;

const COMPARE = `${PLAIN}
out = ipc.open_file("out.arrow").read_all() if sys.argv[1] == "out.arrow" else pq.read_table(sys.argv[1])
if sys.argv[2] == "deltas.arrows": plain = {"x": pa.array(["\\ufeffa", "", None, "c", "\\ufeffa"])}
for name in out.column_names:
    column, wanted = pa.concat_arrays(out[name].chunks), plain[name]
    if name in ("s", "d64"): wanted = wanted.cast(column.type)
    if not (column.equals(wanted) or name == "z" and str(column) == str(wanted)): print(name, column.type, column, wanted)
print(out.num_rows, "rows")
`;

const python = (script: string, ...args: readonly string[]): string =>
  execFileSync(PYTHON, ['-c', script, ...args], { cwd: directory, encoding: 'utf8' }).trim();

beforeAll(() => void python(WRITE));

const copied = async (input: string, output: string, rowsMax: number): Promise<void> => {
  const source = await openSource(path.join(directory, input));
  const request = { columns: source.columns, types: new Map(), rowsMax, isWhole: true };
  await writeOutput(source.rows(request), path.join(directory, 'partial'), path.join(directory, output));
};

it.each(['in.arrow', 'in.arrows', 'deltas.arrows', 'in.parquet'])(
  'values of every type come as they are, of batches that are joined or cut (%s)',
  async (input) => {
    for (const rowsMax of [2, 1000])
      for (const output of ['out.arrow', 'out.parquet']) {
        await copied(input, output, rowsMax);
        expect(python(COMPARE, output, input)).toBe(`${input === 'deltas.arrows' ? 5 : 4} rows`);
      }
  },
);
