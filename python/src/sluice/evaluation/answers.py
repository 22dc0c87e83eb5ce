"""Rows sent to a function and answered, in row order, with a window of calls in flight."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pt

from sluice.catalog import CatalogCalls, pieces
from sluice.evaluation.errors import EvaluationError, Failures
from sluice.evaluation.source import TableSource
from sluice.evaluation.target import Target
from sluice.results import Result

CONCURRENT_CHUNKS_MAX = 256
Piece = tuple[np.ndarray, Future[Result]]


@dataclass(frozen=True)
class Asking:
    """How a table is sent. ``columns``: input → column; ``field``: of struct answers, the one that is looked at."""

    target: Target
    columns: dict[str, str]
    field: str | None
    concurrent_chunks: int
    progress: bool


def answered(
    asking: Asking, source: TableSource, failures: Failures, keep: Callable[[int, int], np.ndarray] | None = None
) -> Generator[tuple[np.ndarray, pa.Array], None, None]:
    """Row numbers and their answers, as they come, in row order; rows that failed are in ``failures`` in their place.

    ``keep``: of rows from the first number to before the second, True for those that are sent; by default all.
    Raises EvaluationError for answers that a table cannot hold.
    """
    calls = CatalogCalls("null")
    threads = ThreadPoolExecutor(asking.concurrent_chunks, thread_name_prefix="sluice-evaluate")
    waiting: deque[Piece] = deque()
    # Imported here, since most runs show no bar.
    from tqdm.auto import tqdm

    bar = tqdm(desc=source.name, unit="row", unit_scale=True, disable=not asking.progress)
    try:
        for numbers, table in _sent(asking, source, failures, keep):
            waiting.append((numbers, threads.submit(calls.result, asking.target.function, table)))
            if len(waiting) >= asking.concurrent_chunks:
                yield _taken(waiting, asking, failures, bar)
        while waiting:
            yield _taken(waiting, asking, failures, bar)
    finally:
        calls.stop()
        threads.shutdown(wait=True, cancel_futures=True)
        bar.close()


def _sent(
    asking: Asking, source: TableSource, failures: Failures, keep: Callable[[int, int], np.ndarray] | None
) -> Iterator[tuple[np.ndarray, pa.Table]]:
    first = 0
    types = asking.target.types(asking.columns)
    for chunk in source.chunks(list(asking.columns.values()), types):
        numbers = np.arange(first, first + chunk.num_rows)
        first += chunk.num_rows
        if keep is not None:
            kept = keep(first - chunk.num_rows, first)
            numbers, chunk = numbers[kept], chunk.filter(pa.array(kept))
        rows, absent = asking.target.rows(chunk, asking.columns)
        if absent is not None:
            mask = absent.to_numpy()
            message = "an input is null, which the function does not take"
            failures.add_all(numbers[mask], "schema_mismatch", message)
            numbers, rows = numbers[~mask], rows.filter(pc.invert(absent))
        at = 0
        for piece in pieces(rows):
            if piece.num_rows > 0:
                yield numbers[at : at + piece.num_rows], piece
                at += piece.num_rows


def _taken(waiting: deque[Piece], asking: Asking, failures: Failures, bar: Any) -> tuple[np.ndarray, pa.Array]:
    numbers, future = waiting.popleft()
    result = future.result()
    bar.update(len(numbers))
    for row, error in sorted(result.errors.items()):
        failures.add(int(numbers[row]), error)
    is_ok = np.ones(len(numbers), bool)
    is_ok[list(result.errors)] = False
    values = plain_answers(result.values, asking)
    is_null = values.is_null().to_numpy(zero_copy_only=False)
    failures.add_all(numbers[is_ok & is_null], "no_answer", "the answer is null")
    is_ok &= ~is_null
    return numbers[is_ok], values.filter(pa.array(is_ok))


def plain_answers(values: pa.Array, asking: Asking) -> pa.Array:
    """Answers without what is around them: JSON texts, the one field of a struct, lists of one."""
    if asking.target.is_json:
        values = parsed_answers(values)
    if asking.field is not None:
        names = [one.name for one in values.type] if pt.is_struct(values.type) else []
        if asking.field not in names:
            told = f"structs of {', '.join(names)}" if names else f"{values.type}"
            raise EvaluationError(f"answer is {asking.field!r}, and the answers are {told}")
        values = pc.struct_field(values, asking.field)
    elif pt.is_struct(values.type) and values.type.num_fields == 1:
        values = pc.struct_field(values, [0])
    if pt.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return _singled(values)


def parsed_answers(texts: pa.Array) -> pa.Array:
    """Values of JSON texts. Raises EvaluationError where no column holds them."""
    try:
        parsed = [None if text is None else json.loads(text) for text in texts.to_pylist()]
        # A chunk of whole numbers may stand between chunks of others.
        return pa.array([float(one) if type(one) is int else one for one in parsed])
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        raise EvaluationError(f"the answers are JSON of several types: {error}") from None
    except (OverflowError, RecursionError) as error:
        raise EvaluationError(f"the answers are JSON of numbers too large, or of lists too deep: {error}") from None


def is_list(kind: pa.DataType) -> bool:
    return pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)


def _singled(values: pa.Array) -> pa.Array:
    """Servers of tensors answer a column of shape [rows, 1]."""
    while is_list(values.type):
        lengths = pc.list_value_length(values)
        if len(values) == 0 or pc.all(pc.equal(lengths, 1)).as_py() is not True:
            break
        values = pc.list_element(values, 0)
    return values
