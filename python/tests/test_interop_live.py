"""pyarrow writes the rows and reads the results, over every supported type, with nulls, through split batches."""

import datetime
import decimal
import random
import string

import pyarrow as pa
import pytest
from handlers.interop import ALONE, TYPES

DEPLOYED = "interop.py"

ROWS = 40
NULL_SHARE = 0.25


def value(kind: pa.DataType, rng: random.Random):
    """A random value, null now and then, of any type."""
    if rng.random() < NULL_SHARE:
        return None
    return some(kind, rng)


def some(kind: pa.DataType, rng: random.Random):
    t = pa.types
    if t.is_integer(kind):
        low = 0 if t.is_unsigned_integer(kind) else -(2 ** (kind.bit_width - 1))
        return rng.choice([low, low + 2**kind.bit_width - 1, low + rng.randrange(2**kind.bit_width)])
    if t.is_floating(kind):
        return rng.choice([0.0, -1.5, 1024.25, float("inf"), -0.125])
    if t.is_boolean(kind):
        return rng.random() < 0.5
    if t.is_string(kind) or t.is_large_string(kind):
        return "".join(rng.choices(string.printable + "éあ😀", k=rng.randrange(6)))
    if t.is_fixed_size_binary(kind):
        return rng.randbytes(kind.byte_width)
    if t.is_binary(kind) or t.is_large_binary(kind):
        return rng.randbytes(rng.randrange(6))
    if t.is_decimal(kind):
        return decimal.Decimal(rng.randrange(-(10**18), 10**18)).scaleb(-kind.scale)
    if t.is_temporal(kind):
        return moment(kind, rng)
    return nested(kind, rng)


def moment(kind: pa.DataType, rng: random.Random):
    day = datetime.date(1900, 1, 1) + datetime.timedelta(days=rng.randrange(80_000))
    second = datetime.timedelta(seconds=rng.randrange(86_400))
    if pa.types.is_date(kind):
        return day
    if pa.types.is_duration(kind):
        return second
    whole = datetime.datetime.combine(day, datetime.time()) + second
    if pa.types.is_time(kind):
        return whole.time()
    return whole.replace(tzinfo=datetime.timezone.utc) if kind.tz else whole


def nested(kind: pa.DataType, rng: random.Random):
    if pa.types.is_dictionary(kind):
        return some(kind.value_type, rng)
    if pa.types.is_struct(kind):
        return {kind.field(i).name: value(kind.field(i).type, rng) for i in range(kind.num_fields)}
    if pa.types.is_map(kind):
        return [(str(i), value(kind.item_type, rng)) for i in range(rng.randrange(3))]
    size = kind.list_size if pa.types.is_fixed_size_list(kind) else rng.randrange(4)
    return [value(kind.value_type, rng) for _ in range(size)]


def column(kind: pa.DataType, rng: random.Random) -> pa.Array:
    return pa.array([value(kind, rng) for _ in range(ROWS)], kind)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_type_comes_back_as_it_went(remote, seed):
    rng = random.Random(seed)
    table = pa.table({name: column(kind, rng) for name, kind in TYPES.items()})
    got = remote.function("identity").chunked_call(table, chunk_size=11).column("result")
    assert got.type == pa.struct(list(TYPES.items()))
    for i, name in enumerate(TYPES):
        back = pa.chunked_array([chunk.field(i) for chunk in got.chunks])
        assert back.to_pylist() == table.column(name).to_pylist(), name


@pytest.mark.parametrize("name", ALONE)
def test_a_type_alone_comes_back_as_it_went(remote, name):
    rng = random.Random(3)
    values = column(TYPES[name], rng)
    got = remote.function(f"identity_{name}")(pa.table({"v": values}))
    assert got.type == values.type
    assert got.to_pylist() == values.to_pylist()
    got.validate(full=True)


def test_sliced_and_chunked_tables_keep_their_rows(remote):
    rng = random.Random(4)
    values = pa.chunked_array([column(TYPES["dictionary"], rng), column(TYPES["dictionary"], rng).slice(3, 30)])
    got = remote.function("identity_dictionary")(pa.table({"v": values}).slice(5, 50))
    assert got.to_pylist() == values.slice(5, 50).to_pylist()


def test_output_types_are_cast_to_what_the_caller_asks_for(remote):
    asked = pa.large_list(pa.large_string())
    got = remote.function("identity_large_list", output_type=asked)(pa.table({"v": pa.array([["a"], None], TYPES["large_list"])}))
    assert got.type == asked
    assert got.to_pylist() == [["a"], None]
    with pytest.raises(ValueError, match="does not cast to output_type=struct<>"):
        remote.function("identity_utf8", output_type=pa.struct([]))(pa.table({"v": ["a"]}))
