"""Identity over every supported Arrow type: one column each in, one struct of all of them out; and some types alone."""

import pyarrow as pa
import sluice

TYPES = {
    **{name: getattr(pa, name)() for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
    "float16": pa.float16(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "bool": pa.bool_(),
    "utf8": pa.string(),
    "large_utf8": pa.large_string(),
    "binary": pa.binary(),
    "large_binary": pa.large_binary(),
    "fixed_size_binary": pa.binary(3),
    "date32": pa.date32(),
    "date64": pa.date64(),
    "timestamp_s": pa.timestamp("s"),
    "timestamp_us_utc": pa.timestamp("us", "UTC"),
    "time32": pa.time32("ms"),
    "time64": pa.time64("ns"),
    "duration": pa.duration("us"),
    "decimal128": pa.decimal128(20, 4),
    "decimal256": pa.decimal256(60, 10),
    "list": pa.list_(pa.int32()),
    "list_list": pa.list_(pa.list_(pa.float64())),
    "large_list": pa.large_list(pa.string()),
    "fixed_size_list": pa.list_(pa.float32(), 2),
    "struct": pa.struct([("a", pa.int8()), ("b", pa.list_(pa.string()))]),
    "map": pa.map_(pa.string(), pa.int64()),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
}
ALONE = ["bool", "utf8", "large_list", "fixed_size_list", "decimal128", "dictionary"]


@sluice.function(name="identity", output_type=pa.struct(list(TYPES.items())), max_batching_size=7, max_buffer_duration=1)
def identity(table: pa.Table):
    columns = [table.column(name).combine_chunks() for name in TYPES]
    return pa.StructArray.from_arrays(columns, fields=[pa.field(name, kind) for name, kind in TYPES.items()])


def _alone(name: str) -> sluice.Function:
    def same(table: pa.Table):
        return table.column("v")

    return sluice.function(name=f"identity_{name}", output_type=TYPES[name], max_batching_size=7, max_buffer_duration=1)(same)


same_bool = _alone("bool")
same_utf8 = _alone("utf8")
same_large_list = _alone("large_list")
same_fixed_size_list = _alone("fixed_size_list")
same_decimal128 = _alone("decimal128")
same_dictionary = _alone("dictionary")
