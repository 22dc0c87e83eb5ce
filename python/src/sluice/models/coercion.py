"""What ``predict`` returned, as the columns of the output schema: checked by name, type and length.

Casts are the safe ones of Arrow within a kind: numbers to numbers that hold them, texts to texts. Numbers never become texts
or the other way round, since that hides a wrong column.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, TypeAlias

import pyarrow as pa
from pyarrow import types as pt

from sluice.models.frame import DataFrame
from sluice.models.schema import Field, arrow_schema
from sluice.worker.outputs import OutputError

_TAKEN = (
    "a sluice.DataFrame, a pandas or polars DataFrame, a pyarrow Table or RecordBatch, a NumPy array or tensor of one or two "
    "dimensions, or a dict of columns"
)
_ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError)

_TENSORS = ("torch", "tensorflow", "jax", "jaxlib")

Column: TypeAlias = pa.Array | pa.ChunkedArray


class PredictionError(OutputError, TypeError):
    """``predict`` returned what the output schema does not take; the message names column, what was expected and what came."""


def coerced(returned: Any, outputs: list[Field] | None, rows: int, *, by_position: bool = False) -> pa.Table:
    """The output columns in the order of the schema, ``rows`` long.

    ``outputs``: None takes what comes. ``by_position``: the columns of a NumPy matrix are those of the schema in its order,
    as for a bare model, which names nothing; a class names its columns.
    """
    if outputs is None:
        table = pa.table(_columns(returned))
        _check_lengths(
            table.to_pydict() if table.num_columns == 0 else dict(zip(table.column_names, table.columns, strict=True)), rows
        )
        return table
    array = _numpy_of(returned)
    columns = _columns(returned) if array is None else _named(array, outputs, by_position)
    schema = arrow_schema(outputs)
    _check_names(list(columns), schema.names)
    _check_lengths(columns, rows)
    arrays = [_cast(columns[field.name], field) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def empty(outputs: list[Field]) -> pa.Table:
    return arrow_schema(outputs).empty_table()


def result_array(table: pa.Table) -> pa.Array:
    """The one output of the function: the only column, or a struct of all."""
    columns = [_joined(column) for column in table.columns]
    return columns[0] if len(columns) == 1 else pa.StructArray.from_arrays(columns, fields=list(table.schema))


def _joined(column: pa.ChunkedArray) -> pa.Array:
    made = column.combine_chunks()
    return pa.array([], column.type) if isinstance(made, pa.ChunkedArray) else made


# What was returned


def _columns(returned: Any) -> dict[str, Column]:
    array = _numpy_of(returned)
    if array is not None:
        return _numbered(array)
    if isinstance(returned, DataFrame):
        return _of_table(returned.to_arrow())
    if isinstance(returned, pa.RecordBatch):
        return _of_table(pa.Table.from_batches([returned]))
    if isinstance(returned, pa.Table):
        return _of_table(returned)
    if isinstance(returned, Mapping):
        return {_name(name): _column(str(name), values) for name, values in returned.items()}
    root = type(returned).__module__.partition(".")[0]
    if root == "pandas" and hasattr(returned, "columns"):
        return _of_pandas(returned)
    if root == "polars" and hasattr(returned, "columns") and hasattr(returned, "to_arrow"):
        return _of_table(returned.to_arrow())
    if not isinstance(returned, type) and hasattr(returned, "to_arrow") and isinstance(made := returned.to_arrow(), pa.Table):
        return _of_table(made)
    raise PredictionError(f"predict returned {_kind(returned)}; it must return {_TAKEN}")


def _kind(value: Any) -> str:
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
    if value is None:
        return "None"
    return f"{name}, which has no column name" if name in ("pandas.Series", "polars.Series") else name


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise PredictionError(f"predict returned a column named {name!r}; names are texts")
    return name


def _of_table(table: pa.Table) -> dict[str, Column]:
    names = table.column_names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise PredictionError(f"predict returned the column {twice!r} more than once")
    return dict(zip(names, table.columns, strict=True))


def _of_pandas(frame: Any) -> dict[str, Column]:
    for name in frame.columns:
        _name(name)
    try:
        return _of_table(pa.Table.from_pandas(frame, preserve_index=False))
    except _ERRORS as error:
        raise PredictionError(f"predict returned a pandas DataFrame that is no Arrow table: {error}") from None


def _column(name: str, values: Any) -> Column:
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    array = _numpy_of(values)
    try:
        if array is not None:
            return _of_numpy(array, name)
        if isinstance(values, (str, bytes, Mapping)) or not hasattr(values, "__len__"):
            raise TypeError(f"it is {type(values).__name__}")
        if hasattr(values, "__arrow_c_stream__"):
            return pa.chunked_array(values)
        return pa.array(values, from_pandas=type(values).__module__.startswith("pandas"))
    except _ERRORS as error:
        raise PredictionError(f"predict returned a column {name!r} that is no list of values of one type: {error}") from None


# NumPy


def _numpy_of(value: Any) -> Any:
    """A NumPy array, or a framework's tensor as one; None: it is neither."""
    numpy = sys.modules.get("numpy")
    if numpy is None or isinstance(value, numpy.ndarray):
        return value if numpy is not None else None
    if type(value).__module__.partition(".")[0] not in _TENSORS or not hasattr(value, "__array__") or not hasattr(value, "shape"):
        return None
    try:
        return numpy.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except _ERRORS as error:  # bfloat16, sparse
        raise PredictionError(f"predict returned a tensor that is no NumPy array: {error}") from None


def _of_numpy(array: Any, name: str) -> Column:
    if array.ndim == 1:
        if array.dtype.kind == "O":
            return pa.array(array.tolist())
        return pa.array(array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("=")))
    if array.ndim == 2:
        numpy = sys.modules["numpy"]
        flat = pa.array(numpy.ascontiguousarray(array).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, array.shape[1])
    raise PredictionError(f"predict returned an array of shape {array.shape} for {name!r}; it takes one or two dimensions")


def _numbered(array: Any) -> dict[str, Column]:
    if array.ndim == 1:
        return {"prediction": _of_numpy(array, "prediction")}
    if array.ndim == 2:
        return {f"col_{i}": _of_numpy(array[:, i], f"col_{i}") for i in range(array.shape[1])}
    raise PredictionError(f"predict returned a NumPy array of shape {array.shape}; it takes one or two dimensions")


def _named(array: Any, outputs: list[Field], by_position: bool) -> dict[str, Column]:
    """A NumPy array under the names of the schema, where nothing else can be meant."""
    names = [field["name"] for field in outputs]
    if len(outputs) == 1 and array.ndim == 2:
        kind = outputs[0]["type"]
        if isinstance(kind, dict) and {"list", "large_list", "fixed_size_list"} & set(kind):
            return {names[0]: _of_numpy(array, names[0])}
        if array.shape[1] == 1:
            array = array[:, 0]
    columns = _numbered(array)
    if len(columns) == len(names) and (len(names) == 1 or by_position):
        return dict(zip(names, columns.values(), strict=True))
    return columns


# Checks


def _check_names(found: list[str], expected: list[str]) -> None:
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    if not missing and not extra:
        return
    said = [f"lacks {_listed(missing)}"] if missing else []
    said += [f"has {_listed(extra)} too"] if extra else []
    raise PredictionError(
        f"predict returned the columns {_listed(found) or 'none'}; output_schema has {_listed(expected)}: "
        f"the answer {' and '.join(said)}{_matrix_hint(found)}"
    )


def _matrix_hint(found: list[str]) -> str:
    if not found or found != [f"col_{i}" for i in range(len(found))]:
        return ""
    return "; the columns of a NumPy matrix are col_0, col_1, …: return a dict of columns, or name them so in output_schema"


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:20])
    return f"{shown} and {len(names) - 20} more" if len(names) > 20 else shown


def _check_lengths(columns: Mapping[str, Any], rows: int) -> None:
    for name, column in columns.items():
        if len(column) != rows:
            raise PredictionError(
                f"predict got {rows} rows and returned {len(column)} in the column {name!r}; "
                "it must return one value for each row"
            )


def _cast(column: Column, field: pa.Field) -> Column:
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.cast(column.type.storage_type)
    if pt.is_dictionary(column.type) and not pt.is_dictionary(field.type):
        column = column.cast(column.type.value_type)
    if column.type != field.type:
        expected = f"column {field.name!r} of output_schema is {field.type}, and predict returned {column.type}"
        if not _is_same_kind(column.type, field.type):
            raise PredictionError(expected)
        try:
            made = column.cast(field.type)
            if pt.is_boolean(field.type) and not made.cast(column.type).equals(column):
                raise pa.ArrowInvalid("there are values beside 0 and 1")
        except _ERRORS as error:
            raise PredictionError(f"{expected}, which does not cast without loss: {error}") from None
        column = made
    if not field.nullable and column.null_count:
        raise PredictionError(f"column {field.name!r} of output_schema takes no nulls, and predict returned {column.null_count}")
    return column


def _is_same_kind(found: pa.DataType, expected: pa.DataType) -> bool:
    if pt.is_null(found) or found == expected:
        return True
    if pt.is_nested(found) or pt.is_nested(expected):
        return _are_alike(found, expected)
    return _kind_of(found) == _kind_of(expected) or {_kind_of(found), _kind_of(expected)} == {"time", "date"}


def _kind_of(kind: pa.DataType) -> str:
    if pt.is_integer(kind) or pt.is_floating(kind) or pt.is_boolean(kind) or pt.is_decimal(kind):
        return "number"
    if pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind) or pt.is_dictionary(kind):
        return "text"
    if pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_fixed_size_binary(kind) or pt.is_binary_view(kind):
        return "binary"
    if pt.is_date(kind):
        return "date"
    return "time" if pt.is_timestamp(kind) else str(kind)


def _are_alike(found: pa.DataType, expected: pa.DataType) -> bool:
    """Lists of what is alike, structs with the same fields."""
    if not (pt.is_nested(found) and pt.is_nested(expected)):
        return False
    if pt.is_struct(found) or pt.is_struct(expected) or pt.is_map(found) or pt.is_map(expected):
        return found.id == expected.id and found.num_fields == expected.num_fields
    return _is_same_kind(found.value_type, expected.value_type)
