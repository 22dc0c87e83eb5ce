"""The handlers of handlers.py as Sluice functions, with the batching that the scenarios name."""

import pyarrow as pa
import sluice
from handlers import lengths as lengths_of
from handlers import simulated_gpu as gpu_of
from handlers import vectors


@sluice.function(name="lengths", max_batching_size=64, max_buffer_duration=5)
def lengths(text: list[str]) -> list[int]:
    return lengths_of(text)


@sluice.function(name="simulated_gpu", max_batching_size=64, max_buffer_duration=5)
def simulated_gpu(text: list[str]) -> list[int]:
    return gpu_of(text)


@sluice.function(name="vectors_384", max_batching_size=1000, max_buffer_duration=5, output_type=pa.list_(pa.float32(), 384))
def vectors_384(text: list[str]) -> list[list[float]]:
    return vectors(text, 384)


@sluice.function(name="vectors_8", max_batching_size=1000, max_buffer_duration=5, output_type=pa.list_(pa.float32(), 8))
def vectors_8(text: list[str]) -> list[list[float]]:
    return vectors(text, 8)
