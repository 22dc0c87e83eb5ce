"""The server's Arrow answer to a call as one pyarrow Array and the errors by row."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sluice.value_check import exact_array

_TYPE_KEY = b"sluice.type"
"""Field metadata that marks a utf8 column of JSON texts."""


@dataclass(frozen=True)
class Result:
    """``values``: one entry a row, null where the row is in ``errors`` (row number → code, message, kind, traceback)."""

    values: pa.Array
    errors: dict[int, dict[str, Any]]


def decode(data: Any, output_type: pa.DataType | None) -> Result:
    """Raises ValueError when the result does not cast to the type that was asked for."""
    table = pa.ipc.open_stream(pa.py_buffer(data)).read_all()
    column = table.column("result")
    values = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):  # no chunks
        values = pa.array([], column.type)
    errors = {}
    if "error" in table.column_names:
        texts = table.column("error").to_pylist()
        errors = {row: json.loads(text) for row, text in enumerate(texts) if text is not None}
    is_json = ((table.schema.field("result").metadata or {}).get(_TYPE_KEY)) == b"json"
    return Result(cast(values, output_type, is_json), errors)


def cast(values: pa.Array, kind: pa.DataType | None, is_json: bool = False) -> pa.Array:
    """``values`` in the type that was asked for; JSON texts are read where it is not a text type."""
    if kind is None or values.type == kind:
        return values
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    try:
        if is_json and not is_text:
            return exact_array([None if text is None else json.loads(text) for text in values.to_pylist()], kind)
        return values.cast(kind)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise ValueError(
            f"the result is {'json' if is_json else values.type}, which does not cast to output_type={kind}: {error}"
        ) from None
