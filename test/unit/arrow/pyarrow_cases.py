"""Writes Arrow streams with pyarrow, and checks with pyarrow what the TypeScript side made of them.

    pyarrow_cases.py write DIR     one stream per case and layout, and DIR/cases.json
    pyarrow_cases.py check DIR     reads DIR/checks.json, prints one line per difference
    pyarrow_cases.py accept DIR    reads the streams in DIR/accepted.bin, prints one line per stream that pyarrow does not take

In accepted.bin each stream comes after its length, 4 bytes; its line begins with its place.
"""

import datetime as dt
import decimal
import json
import pathlib
import sys

import pyarrow as pa

ROWS = 37


def with_nulls(make):
    return [None if i % 5 == 3 else make(i) for i in range(ROWS)]


def cases():
    epoch = dt.datetime(1969, 12, 31, 23, 0, 0)
    utc = epoch.replace(tzinfo=dt.timezone.utc)
    words = ["", "a", "grüße", "日本語", "🙂", 'quote " and \\ and \n', "x" * 50]
    yield "null", pa.array([None] * ROWS, pa.null())
    yield "bool", pa.array(with_nulls(lambda i: i % 3 == 0))
    for bits in (8, 16, 32, 64):
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        yield (
            f"int{bits}",
            pa.array(with_nulls(lambda i, low=low, high=high: [low, high, 0, -1, i][i % 5 if i % 5 != 3 else 0]), f"int{bits}"),
        )
        yield f"uint{bits}", pa.array(with_nulls(lambda i, bits=bits: [0, 2**bits - 1, 1, 2, i][i % 5]), f"uint{bits}")
    for name in ("float16", "float32", "float64"):
        yield name, pa.array(with_nulls(lambda i: (i - 18) / 8), getattr(pa, name)())
    yield "float64_wide", pa.array(with_nulls(lambda i: 1.1 * 10.0 ** (i * 16 - 300)))
    for name in ("utf8", "large_utf8"):
        yield name, pa.array(with_nulls(lambda i: words[i % 7]), getattr(pa, name)())
    yield "utf8_ascii", pa.array([f"text {i}" for i in range(ROWS)])
    for name in ("binary", "large_binary"):
        yield name, pa.array(with_nulls(lambda i: bytes(range(i))), getattr(pa, name)())
    yield "fixed_size_binary", pa.array(with_nulls(lambda i: bytes([i] * 5)), pa.binary(5))
    floats = with_nulls(lambda i: [None if k == 2 else k / 4 for k in range(i % 6)])
    yield "list_float32", pa.array(floats, pa.list_(pa.float32()))
    yield "large_list_float64", pa.array(floats, pa.large_list(pa.float64()))
    yield "list_plain", pa.array([[i / 2, i + 0.25] for i in range(ROWS)], pa.list_(pa.float64()))
    yield "fixed_list", pa.array(with_nulls(lambda i: [i, i + 1, None]), pa.list_(pa.int16(), 3))
    yield "fixed_list_text", pa.array(with_nulls(lambda i: [words[i % 7], None]), pa.list_(pa.utf8(), 2))
    yield "list_list", pa.array(with_nulls(lambda i: [[i], None, [], [None, 7]][: i % 5]), pa.list_(pa.large_list(pa.int64())))
    struct = pa.struct([("a", pa.int32()), ("b b", pa.list_(pa.utf8())), ("c", pa.struct([("d", pa.bool_())]))])
    yield "struct", pa.array(with_nulls(lambda i: {"a": i, "b b": [words[i % 7]], "c": None if i % 2 else {"d": True}}), struct)
    yield "list_struct", pa.array(with_nulls(lambda i: [{"a": i, "b b": None, "c": None}] * (i % 3)), pa.list_(struct))
    yield (
        "map",
        pa.array(with_nulls(lambda i: [(f"k{k}", k if k else None) for k in range(i % 4)]), pa.map_(pa.utf8(), pa.int32())),
    )
    yield "dictionary", pa.array(with_nulls(lambda i: words[i % 4])).dictionary_encode()
    yield (
        "dictionary_int8",
        pa.DictionaryArray.from_arrays(pa.array(with_nulls(lambda i: i % 3), pa.int8()), pa.array([7, 2**40, -1])),
    )
    yield "list_dictionary", pa.array(with_nulls(lambda i: words[: i % 4]), pa.list_(pa.dictionary(pa.int16(), pa.utf8())))
    for unit in ("s", "ms"):
        yield f"timestamp_{unit}", pa.array(with_nulls(lambda i: epoch + dt.timedelta(hours=i)), pa.timestamp(unit))
    for unit in ("us", "ns"):
        yield (
            f"timestamp_{unit}",
            pa.array(with_nulls(lambda i: epoch + dt.timedelta(minutes=i, microseconds=i)), pa.timestamp(unit)),
        )
    yield "timestamp_utc", pa.array(with_nulls(lambda i: utc + dt.timedelta(milliseconds=i * 999_999)), pa.timestamp("ms", "UTC"))
    yield "date32", pa.array(with_nulls(lambda i: dt.date(1969, 12, 20) + dt.timedelta(days=i)))
    yield "date64", pa.array(with_nulls(lambda i: dt.date(1969, 12, 20) + dt.timedelta(days=i)), pa.date64())
    for unit in ("s", "ms", "us", "ns"):
        kind = pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
        yield f"time_{unit}", pa.array(with_nulls(lambda i: dt.time(i % 24, i, 59 - i)), kind)
        yield f"duration_{unit}", pa.array(with_nulls(lambda i: dt.timedelta(seconds=i - 9)), pa.duration(unit))
    digits = decimal.Decimal("12345678901234567890.12345")
    yield "decimal128", pa.array(with_nulls(lambda i: (i - 18) * digits), pa.decimal128(38, 5))
    yield "decimal256", pa.array(with_nulls(lambda i: (18 - i) * digits), pa.decimal256(60, 7))


def write_stream(path, batches, schema, **options):
    with pa.ipc.new_stream(path, schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for batch in batches:
            writer.write(batch)


def growing_dictionaries(directory):
    """Batches whose dictionaries replace (or extend) the one before."""
    rows = [["a", "b", None, "a"], ["a", "b", "c", "c"], ["z", "b", None, "q"], ["z", "z"]]
    kind = pa.dictionary(pa.int32(), pa.utf8())
    batches = [pa.record_batch([pa.array(r).dictionary_encode().cast(kind)], names=["result"]) for r in rows]
    write_stream(directory / "dictionary_replaced.arrow", batches, batches[0].schema)
    write_stream(directory / "dictionary_deltas.arrow", batches, batches[0].schema, emit_dictionary_deltas=True)
    return {name: sum(len(r) for r in rows) for name in ("dictionary_replaced", "dictionary_deltas")}


def refused(directory):
    """Streams that are valid Arrow and that Sluice does not take."""
    text = pa.array(["a", "b"])
    arrays = {
        "dense union": pa.UnionArray.from_dense(pa.array([0, 0], pa.int8()), pa.array([0, 1], pa.int32()), [text]),
        "run-end encoded": pa.RunEndEncodedArray.from_arrays([2], ["a"]),
        "utf8 view": text.cast(pa.string_view()),
        "binary view": pa.array([b"a"], pa.binary_view()),
        "list view": pa.array([[1]], pa.list_view(pa.int8())),
        "interval": pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
        "decimal of 32 bits": pa.array([decimal.Decimal("1.5")], pa.decimal32(5, 1)),
    }
    for name, array in arrays.items():
        batch = pa.record_batch([array], names=["result"])
        write_stream(directory / f"refused {name}.arrow", [batch], batch.schema)
    batch = pa.record_batch([text], names=["result"])
    for codec in ("lz4", "zstd"):
        write_stream(directory / f"refused compressed {codec}.arrow", [batch], batch.schema, compression=codec)
    with pa.ipc.new_file(directory / "refused Arrow file.arrow", batch.schema) as writer:
        writer.write(batch)


def write(directory):
    refused(directory)
    extensions(directory)
    names = growing_dictionaries(directory)
    for name, array in cases():
        table = pa.table({"result": array})
        padded = pa.table({"result": pa.concat_arrays([array.slice(9, 5), array, array.slice(0, 3)])})
        layouts = {
            name: table.to_batches(),
            f"{name}.offset": padded.slice(5, ROWS).to_batches(),
            f"{name}.batches": table.to_batches(max_chunksize=11)
            if "dictionary" not in name
            else [table.slice(k, 11).combine_chunks().to_batches()[0] for k in range(0, ROWS, 11)],
        }
        for layout, batches in layouts.items():
            write_stream(directory / f"{layout}.arrow", batches, table.schema)
            names[layout] = ROWS
    (directory / "cases.json").write_text(json.dumps(names))


def read(path):
    with pa.ipc.open_stream(path) as reader:
        table = reader.read_all()
    table.validate(full=True)
    return table


def plain(table):
    return table.column("result").to_pylist()


def compare(directory, check):
    source = read(directory / f"{check['case']}.arrow")
    made = read(directory / check["file"])
    if not check.get("loose") and made.schema.field("result").type != source.schema.field("result").type:
        return f"type {made.schema.field('result').type}"
    expected, errors = [], []
    for part in check["parts"]:
        rows = [None] * part["count"] if part.get("error") else plain(source.slice(part["from"], part["count"]))
        expected += rows
        errors += [part.get("error")] * part["count"]
    if plain(made) != expected:
        return f"values {plain(made)} != {expected}"
    if any(errors) != ("error" in made.column_names):
        return f"columns {made.column_names}"
    if any(errors):
        codes = [None if text is None else json.loads(text)["code"] for text in made.column("error").to_pylist()]
        return None if codes == errors else f"errors {codes} != {errors}"
    return None


def check(directory):
    for item in json.loads((directory / "checks.json").read_text()):
        try:
            difference = compare(directory, item)
        except Exception as error:  # noqa: BLE001 - every failure is a finding of its own
            difference = f"{type(error).__name__}: {error}"
        if difference:
            print(f"{item['file']}: {difference}")


def extensions(directory):
    """Fields whose metadata name an extension type, some of which does not fit: DIR/extension-N.arrow, a column of one null."""
    tensors = [
        '{"shape":[2,2]}', '{"shape": [4], "dim_names": ["a"]}', '{"shape":[2,2],"permutation":[1,0]}', '{"shape":[3]}',
        '{"shape":[2.0,2]}', '{"shape":[2,2],"permutation":[0,0]}', '{"shape":[2,2],"permutation":[0]}', '{"shape":[-2,-2]}',
        '{"shape":[2,2],"dim_names":["a"]}', '{"shape":[2,2],"dim_names":[1,2]}', '{"shape":4}', '{}', "[]", "{", "",
        '{"shape":[4],"shape":[3]}', '{"shape":[3],"shape":[4]}', '{"shape":[2,2],"permutation":null}', '{"shape":[1e0,4]}',
    ]  # fmt: skip
    storages = [pa.binary(16), pa.binary(4), pa.utf8(), pa.large_utf8(), pa.int8(), pa.list_(pa.float32(), 4)]
    storages += [pa.dictionary(pa.int8(), pa.utf8()), pa.struct([("a", pa.int8())]), pa.null()]
    names = [f"arrow.{name}" for name in ("uuid", "json", "bool8", "opaque", "variable_shape_tensor", "none")] + ["geoarrow.wkb"]
    found = [("arrow.fixed_shape_tensor", text, storages[5]) for text in tensors]
    found += [
        (name, text, storage) for name in [*names, "arrow.fixed_shape_tensor"] for text in ("", "{") for storage in storages
    ]
    for place, (name, text, storage) in enumerate(found):
        about = {"ARROW:extension:name": name, "ARROW:extension:metadata": text}
        for depth, kind in enumerate((storage, pa.list_(pa.field("item", storage, metadata=about)))):
            schema = pa.schema([pa.field("result", kind, metadata=None if depth else about)])
            batch = pa.record_batch(
                [pa.array([None], storage) if depth == 0 else pa.nulls(1, pa.list_(storage)).cast(kind)], schema=schema
            )
            write_stream(directory / f"extension-{place}-{depth}.arrow", [batch], schema)


# Times of no day and decimals of too many digits: numbers like others to the format, and to what reads a stream.
VALUES_ONLY = ("acceptable range", "whole number of days", "does not fit in precision")


def accept(directory):
    data = (directory / "accepted.bin").read_bytes()
    at = place = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        try:
            repr(read(pa.py_buffer(data[at + 4 : end])).schema)
        except Exception as error:  # noqa: BLE001 - every failure is a finding of its own
            if not any(text in str(error) for text in VALUES_ONLY):
                print(f"{place} {type(error).__name__}: {str(error).splitlines()[0]}")
        at, place = end, place + 1


if __name__ == "__main__":
    {"write": write, "check": check, "accept": accept}[sys.argv[1]](pathlib.Path(sys.argv[2]))
