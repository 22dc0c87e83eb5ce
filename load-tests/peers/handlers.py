"""What every server in the comparison runs on a batch: the bodies are here once, so that all run the same work."""

import time

import numpy as np
import pyarrow as pa

GPU_BATCH_SECONDS = 0.020


def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


def simulated_gpu(texts: list[str]) -> list[int]:
    """A device that takes 20 ms for any batch."""
    time.sleep(GPU_BATCH_SECONDS)
    return lengths(texts)


def vectors(texts: list[str], width: int) -> np.ndarray:
    """float32 of shape (texts, width): each row is its text's length `width` times, so that the order can be seen."""
    return np.repeat(np.array(lengths(texts), np.float32), width).reshape(-1, width)


def vectors_table(table: pa.Table, width: int) -> pa.Table:
    """The same as Arrow, for the peers whose users would write this themselves."""
    found = vectors(table["text"].to_pylist(), width)
    return pa.table({"result": pa.FixedSizeListArray.from_arrays(pa.array(found.reshape(-1)), width)})
