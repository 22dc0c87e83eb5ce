"""Functions that OpenAI's clients call."""

import pyarrow as pa
import sluice

QUICK = {"max_batching_size": 512, "max_buffer_duration": 2}


@sluice.function(task="embedding", output_type=pa.list_(pa.float32(), 4), **QUICK)
def py_embed(text: list[str]) -> list[list[float]]:
    return [[len(one) / 7, sum(one.encode()) / 1000, 0.1, -1.0] for one in text]


@sluice.function(task="embedding", input_types={"tokens": pa.list_(pa.int64())}, output_type=pa.list_(pa.float64()), **QUICK)
def py_embed_tokens(tokens: list[list[int]]) -> list[list[float]]:
    return [[float(len(one)), float(one[0])] for one in tokens]


@sluice.function(task="completion", **QUICK)
def py_complete(prompt: list[str]) -> list[str]:
    return [one[::-1] for one in prompt]


@sluice.function(retries=0, task="embedding", output_type=pa.list_(pa.float32()), **QUICK)
def py_broken(text: list[str]) -> list[list[float]]:
    raise ValueError("the weights are gone")
