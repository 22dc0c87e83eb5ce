"""Rows in and out: an Arrow stream's batches as events, and what a handler answered as one stream of one batch."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

RESULT = "result"


class InputError(Exception):
    """The request holds no readable Arrow stream."""


class AnswerError(Exception):
    """What the handler returned is not one value for each row."""


def batches_of(stream: bytes) -> Iterator[pa.RecordBatch]:
    """The request's record batches, none when it is empty; raises InputError."""
    if not stream:
        return
    try:
        with pa.ipc.open_stream(pa.py_buffer(stream)) as reader:
            yield from reader
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise InputError(f"the request is not a readable Arrow stream: {error}") from None


def event_of(batch: pa.RecordBatch, names: list[str] | None = None) -> dict[str, pa.Array]:
    """Columns by name; ``names`` renames them by position."""
    found = batch.schema.names
    if names is not None and len(names) != len(found):
        raise InputError(f"the request has {len(found)} columns ({', '.join(found)}); {len(names)} are named: {', '.join(names)}")
    return dict(zip(names or found, batch.columns, strict=True))


def length_error(rows: int, returned: int) -> AnswerError:
    return AnswerError(f"the handler got {rows} rows and returned {returned}; it must return one value for each row")


def answer_of(values: Any) -> pa.RecordBatch:
    """What a handler returned as one batch; raises AnswerError."""
    try:
        return _batch(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        raise AnswerError(f"the handler returned {_named(values)}, which is no Arrow data: {error}") from None


def stream_of(batch: pa.RecordBatch) -> bytes:
    """One uncompressed stream of one batch, which every reader of results takes."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def _named(values: Any) -> str:
    return f"a {type(values).__name__}"


def _batch(values: Any) -> pa.RecordBatch:
    if isinstance(values, pa.RecordBatch):
        return values
    if isinstance(values, pa.Table):
        return _combined(values)
    if isinstance(values, Mapping):
        return _columns({str(name): _array(column) for name, column in values.items()})
    if hasattr(values, "to_arrow") and isinstance(made := values.to_arrow(), (pa.Table, pa.RecordBatch)):
        return _batch(made)
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(values, pandas.DataFrame):
        return _combined(pa.Table.from_pandas(values, preserve_index=False))
    records = _records(values)
    return _columns({RESULT: _array(values)}) if records is None else _columns(records)


def _columns(columns: dict[str, pa.Array]) -> pa.RecordBatch:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise AnswerError(f"the handler returned columns of different lengths: {lengths}")
    if not columns:
        raise AnswerError("the handler returned no columns")
    return pa.RecordBatch.from_pydict(columns)


def _combined(table: pa.Table) -> pa.RecordBatch:
    if table.num_columns == 0:
        raise AnswerError("the handler returned a table without columns")
    found = table.combine_chunks().to_batches()
    return found[0] if len(found) == 1 else _columns({n: _array(table.column(n)) for n in table.column_names})


def _array(values: Any) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        made = values.combine_chunks()
        return made if isinstance(made, pa.Array) else pa.concat_arrays(made.chunks)
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, pa.Scalar):
        return pa.array([values.as_py()], values.type)
    if getattr(values, "ndim", 1) > 1:  # a NumPy array or tensor: a list for each row
        return pa.FixedSizeListArray.from_arrays(_array(values.reshape(-1)), int(values.size // max(1, len(values))))
    if hasattr(values, "__arrow_c_stream__") or hasattr(values, "__arrow_c_array__") or hasattr(values, "__array__"):
        return _of_exporter(values)
    if isinstance(values, (list, tuple)) and not hasattr(values, "_fields"):
        return _chunkless(pa.array([_plain(value) for value in values]))
    return pa.array([_plain(values)])  # a scalar, or None, is one row


def _of_exporter(values: Any) -> pa.Array:
    if hasattr(values, "__arrow_c_stream__"):
        return _array(pa.chunked_array(values))
    return _chunkless(pa.array(values)) if getattr(values, "ndim", 1) == 1 else pa.array([values.item()])


def _chunkless(made: Any) -> pa.Array:
    return _array(made) if isinstance(made, pa.ChunkedArray) else made


def _plain(value: Any) -> Any:
    """NumPy arrays within lists as lists: pyarrow infers nothing of the two-dimensional ones."""
    return value.tolist() if getattr(value, "ndim", 1) > 1 else value


def _records(values: Any) -> dict[str, pa.Array] | None:
    """Lists of dataclasses, named tuples, attrs or pydantic objects as a column for each member."""
    if not isinstance(values, list) or not values:
        return None
    names = _members(values[0])
    if names is None or any(type(value) is not type(values[0]) for value in values):
        return None
    return {name: _array([getattr(value, name) for value in values]) for name in names}


def _members(value: Any) -> list[str] | None:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [field.name for field in dataclasses.fields(value)]
    kind = type(value)
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return list(kind._fields)
    if hasattr(kind, "__attrs_attrs__"):
        return [attribute.name for attribute in kind.__attrs_attrs__]
    return list(kind.model_fields) if hasattr(kind, "model_fields") else None
