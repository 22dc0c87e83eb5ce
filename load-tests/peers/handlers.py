"""What every server in the comparison runs on a batch: the bodies are here once, so that all run the same work."""

import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

GPU_BATCH_SECONDS = 0.020


def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


def simulated_gpu(texts: list[str]) -> list[int]:
    """A device that takes 20 ms for any batch."""
    time.sleep(GPU_BATCH_SECONDS)
    return lengths(texts)


def vectors(texts: pa.Array, width: int) -> pa.Array:
    """list<float>: `width` floats a row, each the row's length in bytes, so that the order of rows can be seen."""
    values = np.repeat(pc.binary_length(texts).to_numpy().astype(np.float32), width)
    return pa.FixedSizeListArray.from_arrays(pa.array(values), width)
