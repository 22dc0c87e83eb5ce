"""A function for SQL: its arguments come in the order of its inputs, a whole batch at a time."""

import pyarrow as pa
import pyarrow.compute as pc
import sluice


@sluice.function(
    input_types={"sqft": pa.float64(), "rooms": pa.float64()},
    output_type=pa.float64(),
    max_batching_size=1000,
    max_buffer_duration=10,
)
def price(sqft: pa.Array, rooms: pa.Array) -> pa.Array:
    return pc.add(pc.multiply(sqft, 150.0), pc.multiply(rooms, 10_000.0))
