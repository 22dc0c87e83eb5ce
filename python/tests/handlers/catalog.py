"""Functions for tests of catalog_call: of each kind of input, output and failure."""

import pyarrow as pa
import pyarrow.compute as pc
import sluice


@sluice.function(
    name="catalog.price",
    input_types={"sqft": pa.float64(), "rooms": pa.float64()},
    output_type=pa.float64(),
    max_batching_size=1000,
    max_buffer_duration=5,
)
def price(sqft: pa.Array, rooms: pa.Array) -> pa.Array:
    """Null in, null out."""
    return pc.add(pc.multiply(sqft, 2.0), rooms)


@sluice.function(name="catalog.double", max_batching_size=64, max_buffer_duration=2)
def double(value: int) -> int:
    """Refuses 13, and its input is not nullable."""
    if value == 13:
        raise sluice.RowError("13 is refused")
    return value * 2


@sluice.function(name="catalog.vector", max_batching_size=64, max_buffer_duration=2)
def vector(text: str) -> list[float]:
    return [float(len(text)), 0.5]


@sluice.function(
    name="catalog.both",
    output_type=pa.struct([("half", pa.float32()), ("word", pa.string())]),
    max_batching_size=64,
    max_buffer_duration=2,
)
def both(value: list[float]) -> list:
    return [{"half": v / 2, "word": f"v{v:g}"} for v in value]


@sluice.function(name="catalog.narrow", input_types={"value": pa.int8()}, output_type=pa.int8(), max_batching_size=64)
def narrow(value: pa.Array) -> pa.Array:
    return value


@sluice.function(name="catalog.table", max_batching_size=64, max_buffer_duration=2)
def any_table(table: pa.Table) -> list[int]:
    return [table.num_columns] * table.num_rows


SENT: list[int] = []


@sluice.function(name="catalog.count", max_batching_size=100_000, max_buffer_duration=20)
def count(value: list[int]) -> list[int]:
    """How many rows have come so far, this one counted: an answer that no cache could give."""
    before = len(SENT)
    SENT.extend(value)
    return list(range(before + 1, len(SENT) + 1))
