"""What callers hand over, made into a pyarrow Table and into the bytes of an Arrow stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pt

from sluice.arrow_types import arrow_type
from sluice.value_check import exact_array

_TAKEN = (
    "a pyarrow Table or RecordBatch, a pandas or polars DataFrame, a dict of columns, a list of dicts, or one list for each input"
)


def table_of(args: tuple[Any, ...], columns: Mapping[str, Any], fields: Callable[[], Any]) -> pa.Table:
    """The rows of a call. ``fields`` asks for the declared inputs, and only where the values do not tell everything.

    Raises TypeError and ValueError that say what is taken.
    """
    if args and columns:
        raise TypeError("rows are given by position or by column name, not both")
    if columns:
        return _from_columns(columns, fields)
    if not args:
        raise TypeError(f"no rows were given; give {_TAKEN}")
    if len(args) == 1:
        found = _from_table(args[0], fields)
        if found is not None:
            return found
        if isinstance(args[0], Mapping):
            return _from_columns(args[0], fields)
    return _from_positions(args, fields)


def stream_of(table: pa.Table) -> pa.Buffer:
    """One uncompressed Arrow IPC stream."""
    if any(pt.is_dictionary(field.type) for field in table.schema):
        table = table.unify_dictionaries()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def refitted(table: pa.Table, fields: Any) -> pa.Table | None:
    """The rows with integer columns in the number types that the inputs have, as pandas' int64 for a float64: only where
    every value stays the same number. None: that changes nothing, or a value does not fit."""
    declared = {field["name"]: arrow_type(field["type"]) for field in fields or [] if field["type"] != "any"}
    made = table
    for at, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        kind = declared.get(name, column.type)
        is_number = pt.is_integer(kind) or pt.is_float32(kind) or pt.is_float64(kind)  # a float16 too large is infinite
        if kind == column.type or not pt.is_integer(column.type) or not is_number:
            continue
        try:
            made = made.set_column(at, name, column.cast(kind))
        except pa.ArrowInvalid:
            return None
    return None if made is table else made


def _from_table(value: Any, fields: Callable[[], Any]) -> pa.Table | None:
    """None: the value is no table."""
    if isinstance(value, pa.RecordBatch):
        table = pa.Table.from_batches([value])
    elif isinstance(value, pa.RecordBatchReader):
        table = value.read_all()
    elif isinstance(value, pa.Table):
        table = value
    elif type(value).__module__.partition(".")[0] == "pandas" and hasattr(value, "columns"):
        try:
            table = pa.Table.from_pandas(value, preserve_index=False)
        except (pa.ArrowException, UnicodeEncodeError):  # values of several types: json takes them, or the error names the column
            return _from_columns({str(name): value[name] for name in value.columns}, fields)
        if table.num_rows == 0:  # pandas guesses a type, where there is no value to tell one
            table = pa.table({name: pa.nulls(0) for name in table.column_names})
    elif hasattr(value, "__arrow_c_stream__") and not _is_column(value):
        table = pa.RecordBatchReader.from_stream(value).read_all()
    else:
        return None
    return _plain(table, fields)


def _is_column(value: Any) -> bool:
    """An array, a chunked array or a series: it has no columns of its own."""
    return isinstance(value, (pa.Array, pa.ChunkedArray)) or not hasattr(value, "columns") and not hasattr(value, "schema")


def _plain(table: pa.Table, fields: Callable[[], Any]) -> pa.Table:
    """Without metadata, and with views, run ends and untyped columns made into what travels."""
    if len(set(table.column_names)) != table.num_columns:
        twice = next(name for name in table.column_names if table.column_names.count(name) > 1)
        raise ValueError(f"column {twice!r} is there twice; column names are the function's inputs")
    types = [_plain_type(kind) for kind in table.schema.types]
    if any(pt.is_null(kind) for kind in types):
        declared = {field["name"]: field["type"] for field in fields() or []}
        known = {name: arrow_type(kind) for name, kind in declared.items() if kind != "any"}
        types = [known.get(n, t) if pt.is_null(t) else t for n, t in zip(table.column_names, types, strict=True)]
    schema = pa.schema([pa.field(f.name, t, f.nullable) for f, t in zip(table.schema, types, strict=True)])
    columns = [column if column.type == kind else _cast(column, kind) for column, kind in zip(table.columns, types, strict=True)]
    return pa.Table.from_arrays(columns, schema=schema) if columns else table.replace_schema_metadata(None)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if isinstance(column.type, pa.BaseExtensionType):
        chunks = [chunk.storage for chunk in column.chunks]
        column = pa.chunked_array(chunks, type=column.type.storage_type)
    if pt.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    if pt.is_dictionary(column.type):
        chunks = [chunk.dictionary.cast(kind).take(chunk.indices) for chunk in column.chunks]
        column = pa.chunked_array(chunks, type=kind)
    return column.cast(kind)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """The type with views and extensions replaced by what they stand for; others as they are."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain_type(kind.storage_type)
    if pt.is_string_view(kind):
        return pa.large_string()
    if pt.is_binary_view(kind):
        return pa.large_binary()
    if pt.is_run_end_encoded(kind) or (pt.is_dictionary(kind) and _plain_type(kind.value_type) != kind.value_type):
        return _plain_type(kind.value_type)
    if pt.is_list_view(kind):
        return pa.list_(_plain_field(kind.value_field))
    if pt.is_large_list_view(kind) or pt.is_large_list(kind):
        return pa.large_list(_plain_field(kind.value_field))
    if pt.is_list(kind):
        return pa.list_(_plain_field(kind.value_field))
    if pt.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field), kind.list_size)
    if pt.is_struct(kind):
        return pa.struct([_plain_field(kind.field(i)) for i in range(kind.num_fields)])
    return kind


def _plain_field(field: pa.Field) -> pa.Field:
    return pa.field(field.name, _plain_type(field.type), field.nullable)


def _from_columns(columns: Mapping[str, Any], fields: Callable[[], Any]) -> pa.Table:
    declared = _declared(columns.values(), fields)
    arrays = {name: column_of(name, values, declared.get(name)) for name, values in columns.items()}
    if not arrays:
        raise ValueError("the dict of columns is empty; name every input of the function")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns have different lengths: {', '.join(f'{n} {k}' for n, k in lengths.items())}")
    return _plain(pa.table(arrays), fields)


def _declared(values: Any, fields: Callable[[], Any]) -> dict[str, Any]:
    """TypeJson by input; asks only when a column is without a type."""
    if all(_has_type(value) for value in values):
        return {}
    return {field["name"]: field["type"] for field in fields() or []}


def _has_type(values: Any) -> bool:
    return isinstance(values, (pa.Array, pa.ChunkedArray))


def column_of(name: str, values: Any, kind: Any) -> pa.Array | pa.ChunkedArray:
    """One column's values as Arrow; ``kind``: the declared TypeJson, None where it is not known."""
    if _has_type(values):
        return values
    if isinstance(values, (str, bytes, bytearray)) or not hasattr(values, "__len__"):
        raise TypeError(f"column {name!r} is {_shown(values)}; it takes one value for each row, as a list")
    with suppress(pa.ArrowException, UnicodeEncodeError):  # a series of several types has no stream
        if hasattr(values, "__arrow_c_stream__"):
            return pa.chunked_array(values)
    target = None if kind in (None, "any") else arrow_type(kind)
    try:
        if kind == "json":
            values = [None if value is None else _json_text(value) for value in values]
        return exact_array(values, target)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        wanted, way_on = ("", "; give it values of one type") if target is None else (f" as {target}", "")
        raise ValueError(f"column {name!r} cannot be sent{wanted}: {error}{way_on}") from None


def _json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _from_positions(args: tuple[Any, ...], fields: Callable[[], Any]) -> pa.Table:
    declared = fields()
    if declared is None:
        raise TypeError(
            "this function takes a whole table of any columns; give a pyarrow Table, a DataFrame or a dict of columns"
        )
    names = [field["name"] for field in declared]
    if len(args) == 1 and _are_rows(args[0], declared):
        rows: Sequence[Mapping[str, Any]] = args[0]
        for at, row in enumerate(rows):
            unknown = [name for name in row if name not in names]
            if unknown:
                raise ValueError(f"row {at} has {unknown[0]!r}, which is no input; the inputs are {', '.join(names)}")
        return _from_columns({name: [row.get(name) for row in rows] for name in names}, fields)
    if len(args) != len(names):
        raise TypeError(f"{len(args)} columns were given by position; the function takes {len(names)}: {', '.join(names)}")
    return _from_columns(dict(zip(names, args, strict=True)), lambda: declared)


def _are_rows(value: Any, declared: list[dict[str, Any]]) -> bool:
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(row, Mapping) for row in value):
        return False
    # One json input takes dicts as its values, unless they name the input itself.
    return len(declared) > 1 or declared[0]["type"] != "json" or all(set(row) == {declared[0]["name"]} for row in value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
