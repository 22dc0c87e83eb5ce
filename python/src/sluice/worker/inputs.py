"""A call frame's body into the body's arguments: Arrow parts cast to the declared inputs, joined, and made Python values."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from sluice.arrow_types import arrow_type
from sluice.declaration import Plan
from sluice.hints import Parameter

Column = Any
"""A pyarrow Array or ChunkedArray."""


class InputError(Exception):
    """The host sent rows that do not fit the declared inputs; it has checked them, so this is no fault of the handler."""


def _streams(body: pa.Buffer | None, parts: Sequence[int]) -> list[pa.Table]:
    if body is None:
        return []
    if len(parts) == 1:
        return [pa.ipc.open_stream(body).read_all()]
    tables = []
    at = 0
    for size in parts:
        tables.append(pa.ipc.open_stream(body.slice(at, size)).read_all())
        at += size
    return tables


def _joined(arrays: list[Column]) -> Column:
    """One Array where there is one chunk; a ChunkedArray stays one only where the parts are many."""
    chunks = [chunk for array in arrays for chunk in (array.chunks if isinstance(array, pa.ChunkedArray) else (array,))]
    if len(chunks) == 1:
        return chunks[0]
    return pa.concat_arrays(chunks) if chunks else None


def _cast(column: Column, kind: pa.DataType | None, name: str) -> Column:
    if kind is None or column.type == kind:
        return column
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.cast(column.type.storage_type)
    if column.type == kind:
        return column
    try:
        return column.cast(kind)
    except pa.ArrowInvalid as error:
        raise InputError(f"column {name!r} does not cast from {column.type} to {kind}: {error}") from None


def _parsed(column: Column) -> list[Any]:
    values = column.to_pylist()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return [None if value is None else json.loads(value) for value in values]
    return values


def _as_list(column: Column) -> list[Any]:
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not is_list or not pa.types.is_primitive(kind.value_type) or pa.types.is_temporal(kind.value_type):
        return column.to_pylist()
    return _lists(column) if column.null_count == 0 and len(column) else column.to_pylist()


def _lists(column: pa.Array) -> list[list[Any]]:
    """Lists of plain numbers: all values at once, then cut; half the time of one list after another."""
    values = column.flatten().to_pylist()
    if pa.types.is_fixed_size_list(column.type):
        width = column.type.list_size
        return [values[at : at + width] for at in range(0, len(values), width)] if width else [[] for _ in column]
    offsets = column.offsets.to_pylist()
    first = offsets[0]
    return [values[a - first : b - first] for a, b in zip(offsets, offsets[1:], strict=False)]


def _as_numpy(column: Column) -> Any:
    if pa.types.is_fixed_size_list(column.type) and column.null_count == 0:
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)
    return column.to_numpy(zero_copy_only=False)


_FORMS: dict[str, Callable[[Column], Any]] = {
    "list": _as_list,
    "scalar": _as_list,
    "arrow": lambda column: column,
    "numpy": _as_numpy,
}


class InputReader:
    """Made once from the spec's inputs; ``read`` gives a batch's keyword arguments, whole columns each."""

    def __init__(self, plan: Plan, inputs: Sequence[dict[str, Any]] | None):
        self._plan = plan
        self._types = {one["name"]: _declared(one) for one in inputs or ()}
        self._is_json = {one["name"] for one in inputs or () if one["type"] == "json"}

    def read(self, body: pa.Buffer | None, parts: Sequence[int], rows: int) -> dict[str, Any]:
        """Raises InputError when the parts do not hold the inputs or not ``rows`` rows."""
        tables = _streams(body, parts)
        found = sum(table.num_rows for table in tables)
        if found != rows:
            raise InputError(f"the frame names {rows} rows and holds {found}")
        if self._plan.mode == "table":
            return self._table(tables)
        return {p.name: self._argument(p, tables) for p in self._plan.parameters}

    def _argument(self, parameter: Parameter, tables: list[pa.Table]) -> Any:
        name = parameter.name
        if name in self._is_json and parameter.form in ("list", "scalar"):
            # One caller's values may be texts and another's structs.
            return [value for column in self._columns(name, tables) for value in _parsed(column)]
        return _FORMS[parameter.form](self._column(name, tables))

    def _columns(self, name: str, tables: list[pa.Table]) -> list[Column]:
        kind = self._types.get(name)
        try:
            return [_cast(table.column(name), kind, name) for table in tables]
        except KeyError:
            names = ", ".join(tables[0].column_names) if tables else ""
            raise InputError(f"the rows have no column {name!r}; they have {names}") from None

    def _column(self, name: str, tables: list[pa.Table]) -> Column:
        kind = self._types.get(name)
        arrays = self._columns(name, tables)
        joined = _joined(arrays)
        return pa.array([], kind or (arrays[0].type if arrays else pa.null())) if joined is None else joined

    def _table(self, tables: list[pa.Table]) -> dict[str, Any]:
        (parameter,) = self._plan.parameters
        if self._types:
            table = pa.table({name: self._column(name, tables) for name in self._types})
        else:
            table = tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="permissive")
        if parameter.form == "Table":
            return {parameter.name: table}
        combined = table.combine_chunks().to_batches()
        return {parameter.name: combined[0] if combined else pa.RecordBatch.from_pylist([], schema=table.schema)}


def _declared(one: dict[str, Any]) -> pa.DataType | None:
    """json may come as text or as a struct column, any as whatever it is; neither is cast."""
    return None if one["type"] in ("json", "any") else arrow_type(one["type"])
