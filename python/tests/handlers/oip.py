"""Functions for tests of the Open Inference Protocol: of each datatype, of lists, of structs, and what fails."""

import numpy as np
import pyarrow as pa
import sluice

TYPES = {
    "BOOL": pa.bool_(),
    **{f"{sign}INT{bits}": getattr(pa, f"{sign.lower()}int{bits}")() for sign in ("", "U") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": getattr(pa, f"float{bits}")() for bits in (16, 32, 64)},
    "BYTES": pa.string(),
}


def echo(datatype: str, kind: pa.DataType):
    @sluice.function(
        name=f"oip.echo_{datatype.lower()}",
        input_types={"value": kind},
        output_type=kind,
        max_batching_size=64,
        max_buffer_duration=2,
    )
    def same(value: pa.Array) -> pa.Array:
        return value

    return same


for datatype, kind in TYPES.items():
    globals()[f"echo_{datatype.lower()}"] = echo(datatype, kind)


@sluice.function(
    name="oip.scale",
    input_types={"vector": pa.list_(pa.float32(), 4), "by": pa.float32()},
    output_type=pa.list_(pa.float32()),
    max_batching_size=256,
    max_buffer_duration=5,
)
def scale(vector: pa.Array, by: pa.Array) -> list:
    rows = np.asarray(vector.flatten()).reshape(-1, 4)
    return list(rows * np.asarray(by)[:, None])


@sluice.function(
    name="oip.describe",
    output_type=pa.struct([("length", pa.int64()), ("upper", pa.string())]),
    max_batching_size=256,
    max_buffer_duration=5,
)
def describe(text: list[str]) -> list:
    return [{"length": len(one), "upper": one.upper()} for one in text]


@sluice.function(name="oip.half", max_batching_size=64, max_buffer_duration=2)
def half(value: int) -> float:
    if value % 2:
        raise sluice.RowError(f"{value} is odd")
    return value / 2


@sluice.function(name="oip.together", max_batching_size=16, max_buffer_duration=60_000)
def together(value: list[int]) -> list[int]:
    """Each row with how many rows its batch has; a batch is cut when it is full."""
    return [len(value)] * len(value)
