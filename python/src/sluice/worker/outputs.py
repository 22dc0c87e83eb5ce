"""What a handler returned, checked and made one Arrow column of the declared output type.

The fast ways (NumPy arrays, lists of equal arrays, lists of number lists) go first; whatever they do not take goes through
pyarrow's own conversion, and what that does not take is an OutputError that names the row and its value.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import types as pt

from sluice.arrow_types import arrow_type
from sluice.errors import RowError
from sluice.failure import printable
from sluice.worker.flat import CODES, END_OF_STREAM, FlatWriter

_GATHER_BYTES = 128 * 1024
"""From here on the batch's buffers are sent as they are; below it, one joined message costs less than ten small ones."""
_REFUSAL_CHARACTERS = 32 * 2**20
"""Of all row errors of an answer together: half of a frame's header."""
_VALUE_CHARACTERS = 80
_PACK_WIDTH = 16
"""Lists shorter than this are as fast through pyarrow (measured: 8 equal, 32 twice as fast packed)."""
_CONVERSION_ERRORS = (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError, KeyError, struct.error)


class OutputError(Exception):
    """The handler's answer is not what it declares; the code is ``handler_output_invalid``."""


class _WriteList:
    """A sink that keeps what it is given: large buffers arrive as themselves, uncopied."""

    closed = False

    def __init__(self) -> None:
        self.parts: list[Any] = []

    def write(self, data: Any) -> int:
        self.parts.append(data)
        return len(data)

    def flush(self) -> None: ...

    def close(self) -> None: ...


def _shown(value: Any) -> str:
    try:
        told = repr(value)
    except Exception as error:
        told = f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    return printable(told if len(told) <= _VALUE_CHARACTERS else f"{told[:_VALUE_CHARACTERS]}…")


def _has_dictionary(kind: pa.DataType) -> bool:
    return pt.is_dictionary(kind) or any(_has_dictionary(kind.field(i).type) for i in range(kind.num_fields))


def _is_list(kind: pa.DataType) -> bool:
    return pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)


def _is_integral(kind: pa.DataType) -> bool:
    return pt.is_integer(kind) or (_is_list(kind) and _is_integral(kind.value_type))


def _array_of(value: Any) -> Any:
    """A NumPy array of a NumPy array or a tensor (torch, jax, tensorflow); None for anything else."""
    numpy = sys.modules.get("numpy")
    if numpy is None or isinstance(value, (list, tuple, str, bytes, dict)):
        return None
    if isinstance(value, numpy.ndarray):
        return value
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        value = value.detach().cpu()
        if "bfloat16" in str(getattr(value, "dtype", "")):
            value = value.float()
    if hasattr(value, "numpy") and hasattr(value, "shape"):
        return numpy.asarray(value.numpy())
    if hasattr(value, "__array__") and hasattr(value, "shape") and not isinstance(value, numpy.generic):
        return numpy.asarray(value)
    return None


def _plain(value: Any) -> Any:
    """Arrays and tensors inside of a value as lists and numbers."""
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, (str, bytes, dict, RowError)) or value is None:
        return value
    return value.tolist() if hasattr(value, "tolist") else value


def _json_default(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not JSON")


def _json_text(value: Any) -> str | None:
    if value is None:
        return None
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_json_default)
    return text if text.isascii() else printable_json(text, value)


def printable_json(text: str, value: Any) -> str:
    """Lone surrogates stay as escapes, which JSON allows and UTF-8 does not."""
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, separators=(",", ":"), default=_json_default)


class OutputWriter:
    """Made once from the spec's output; ``encode`` gives a frame's ``rows``, ``errors`` and body parts."""

    def __init__(self, output: dict[str, Any]):
        self._is_json = output["type"] == "json"
        self._nullable = output.get("nullable", True)
        self.type = arrow_type(output["type"])
        self._schema = pa.schema([pa.field("result", self.type, True)])
        self._schema_bytes = self._schema.serialize().to_pybytes()
        self._name = "json" if self._is_json else str(self.type)
        self._has_dictionary = _has_dictionary(self.type)  # its values are messages of their own in the stream
        self._flat = FlatWriter.of(self.type, self._schema)
        self._packers: dict[int, Callable[..., bytes]] = {}
        child = self.type.value_type if _is_list(self.type) else None
        self._pack_code = CODES.get(child)

    def encode(self, values: Any, rows: int | None, from_row: int = 0) -> tuple[int, list[Any], list[Any]]:
        """``rows``: how many are due, None for a part of a generator. Raises OutputError."""
        if self._flat is not None and type(values) is list and values:
            self._check_length(len(values), rows)
            stream = self._flat.stream(values)
            if stream is not None:
                return len(values), [], [stream]
        array, refused = self._column(values, rows, from_row)
        if not self._nullable and array.null_count > len(refused):
            row = next(i for i in range(len(array)) if not array[i].is_valid and i not in refused)
            raise OutputError(f"row {from_row + row} of the answer is None, and the output {self._name} is not nullable")
        limit = min(4096, _REFUSAL_CHARACTERS // max(1, len(refused)))
        errors = [
            [row, {"kind": type(error).__name__, "message": printable(str(error))[:limit]}] for row, error in refused.items()
        ]
        return len(array), errors, self._body(array)

    def _body(self, array: pa.Array) -> list[Any]:
        batch = pa.RecordBatch.from_arrays([array], schema=self._schema)
        if array.nbytes < _GATHER_BYTES and not self._has_dictionary:
            return [self._schema_bytes, batch.serialize(), END_OF_STREAM]
        sink = _WriteList()
        with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), self._schema) as writer:
            writer.write_batch(batch)
        return sink.parts

    def _column(self, values: Any, rows: int | None, from_row: int) -> tuple[pa.Array, dict[int, RowError]]:
        if isinstance(values, list):
            self._check_length(len(values), rows)
            return self._from_list(values, from_row)
        if type(values).__module__.partition(".")[0] == "pandas" and hasattr(values, "notna"):
            # pandas has NaN where a value is missing, also among strings.
            return self._column(values.astype(object).where(values.notna(), None).tolist(), rows, from_row)
        if isinstance(values, (pa.Table, pa.RecordBatch)):
            values = _only_column(values)
        if isinstance(values, (pa.Array, pa.ChunkedArray)):
            self._check_length(len(values), rows)
            return self._from_arrow(values), {}
        array = _array_of(values)
        if array is not None and array.ndim > 0:
            self._check_length(len(array), rows)
            if array.dtype != object and not self._is_json:
                return self._from_numpy(array), {}
            return self._from_list(array.tolist(), from_row)
        return self._from_other(values, rows, from_row)

    def _from_other(self, values: Any, rows: int | None, from_row: int) -> tuple[pa.Array, dict[int, RowError]]:
        if hasattr(values, "__arrow_c_stream__"):
            return self._column(pa.chunked_array(values), rows, from_row)
        is_rows = isinstance(values, Iterable) and hasattr(values, "__len__")
        if not is_rows or isinstance(values, (str, bytes, bytearray, dict, set, frozenset)):
            due = "a part of its rows" if rows is None else f"{rows} rows"
            raise OutputError(
                f"the handler got {due} and returned {type(values).__name__}; "
                f"it must return a list, one {self._name} for each row"
            )
        return self._column(list(values), rows, from_row)

    def _check_length(self, returned: int, rows: int | None) -> None:
        if rows is not None and returned != rows:
            raise length_error(rows, returned)

    # Arrow and NumPy

    def _from_arrow(self, column: Any) -> pa.Array:
        if self._is_json and not isinstance(column.type, pa.BaseExtensionType):
            return pa.array([_json_text(value) for value in column.to_pylist()], self.type)
        try:
            array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
            array = array if array.type == self.type else array.cast(self.type)
            array.validate()
        except _CONVERSION_ERRORS as error:
            raise OutputError(f"the handler returned {column.type}, which does not cast to {self._name}: {error}") from None
        return array

    def _from_numpy(self, array: Any) -> pa.Array:
        depth = _depth(self.type)
        if array.ndim != depth:
            raise OutputError(
                f"the handler returned an array of shape {tuple(array.shape)}; "
                f"{self._name} needs {depth} dimension{'s' * (depth > 1)}"
            )
        try:
            return _wrapped(array, self.type)
        except _CONVERSION_ERRORS as error:
            raise OutputError(
                f"the handler returned an array of shape {tuple(array.shape)} and type {array.dtype}, "
                f"which is not {self._name}: {error}"
            ) from None

    # Lists

    def _from_list(self, values: list[Any], from_row: int) -> tuple[pa.Array, dict[int, RowError]]:
        try:
            return self._fast(values), {}
        except _CONVERSION_ERRORS:
            pass
        refused = {row: value for row, value in enumerate(values) if isinstance(value, RowError)}
        kept = [None if isinstance(value, RowError) else _plain(value) for value in values]
        try:
            return self._fast(kept), refused
        except _CONVERSION_ERRORS as error:
            raise self._wrong_row(kept, from_row, error) from None

    def _fast(self, values: list[Any]) -> pa.Array:
        if self._is_json:
            return pa.array([_json_text(value) for value in values], self.type)
        if self._pack_code is not None and values:
            if isinstance(values[0], (list, tuple)):
                return self._packed(values) if len(values[0]) >= _PACK_WIDTH else self._converted(values)
            rows = [_array_of(value) for value in values]
            if all(row is not None and row.ndim == 1 for row in rows):
                return _joined_rows(rows, self.type)
        return self._converted(values)

    def _converted(self, values: list[Any]) -> pa.Array:
        # pyarrow cuts 1.5 down to 1 without a word where it is told that it makes integers, so they are inferred first.
        if _is_integral(self.type):
            try:
                array = pa.array(values)
            except (pa.ArrowInvalid, OverflowError):
                array = None  # beyond int64
            if array is not None:
                return array if array.type == self.type else array.cast(self.type)
        array = pa.array(values, self.type)
        return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array

    def _packed(self, values: list[Any]) -> pa.Array:
        """Lists of numbers by way of ``struct``, which is twice as fast as pyarrow and takes no float for an integer."""
        try:
            widths = list(map(len, values))
            same = widths.count(widths[0]) == len(widths)
            packers = [self._packer(widths[0])] * len(widths) if same else [self._packer(width) for width in widths]
            flat = b"".join([pack(*row) for pack, row in zip(packers, values, strict=True)])
        except (TypeError, struct.error, OverflowError):
            return self._converted(values)  # nulls, strings, numbers out of range: pyarrow says what is wrong
        child = pa.Array.from_buffers(self.type.value_type, sum(widths), [None, pa.py_buffer(flat)])
        return _list_array(child, _shape(widths), self.type)

    def _packer(self, width: int) -> Callable[..., bytes]:
        found = self._packers.get(width)
        if found is None:
            found = struct.Struct(f"{width}{self._pack_code}").pack
            if len(self._packers) < 1000:  # ragged rows have any number of widths
                self._packers[width] = found
        return found

    def _wrong_row(self, values: Sequence[Any], from_row: int, cause: Exception) -> OutputError:
        for row, value in enumerate(values):
            try:
                self._fast([value])
            except _CONVERSION_ERRORS as error:
                return OutputError(f"row {from_row + row} of the answer is {_shown(value)}, which is not {self._name}: {error}")
        return OutputError(f"the answer is not {self._name}: {cause}")


def length_error(rows: int, returned: int) -> OutputError:
    return OutputError(f"the handler got {rows} rows and returned {returned}; it must return one value for each row")


def _only_column(table: Any) -> Any:
    if table.num_columns == 1:
        return table.column(0)
    if "result" in table.schema.names:
        return table.column("result")
    raise OutputError(f"the handler returned a table with the columns {', '.join(table.schema.names)}; it must have one, result")


def _depth(kind: pa.DataType) -> int:
    return 1 + _depth(kind.value_type) if _is_list(kind) else 1


def _leaf(array: Any, kind: pa.DataType) -> pa.Array:
    """One dimension. Floats narrow as everywhere in Python; integers that do not fit are an error."""
    numpy = sys.modules["numpy"]
    flat = numpy.ascontiguousarray(array)
    if pt.is_floating(kind) and flat.dtype.kind in "fiub":
        flat = flat.astype(kind.to_pandas_dtype(), copy=False)
    elif flat.dtype.kind == "V":  # bfloat16 of ml_dtypes
        flat = flat.astype(numpy.float32)
    elif not flat.dtype.isnative:
        flat = flat.astype(flat.dtype.newbyteorder("="))
    made = pa.array(flat)
    return made if made.type == kind else made.cast(kind)


def _wrapped(array: Any, kind: pa.DataType) -> pa.Array:
    """(rows, width, …) into lists of lists: the innermost values once, then the lists around them."""
    if not _is_list(kind):
        return _leaf(array, kind)
    rows, width = array.shape[:2]
    child = _wrapped(array.reshape(rows * width, *array.shape[2:]), kind.value_type)
    return _list_array(child, (rows, width), kind)


def _joined_rows(rows: list[Any], kind: pa.DataType) -> pa.Array:
    numpy = sys.modules["numpy"]
    return _list_array(_leaf(numpy.concatenate(rows), kind.value_type), _shape([len(row) for row in rows]), kind)


def _list_array(child: pa.Array, widths: Any, kind: pa.DataType) -> pa.Array:
    """Lists of the given widths over one child; widths as a list, or as (rows, width) when all are the same."""
    if pt.is_fixed_size_list(kind):
        first = widths[1] if isinstance(widths, tuple) else next(w for w in widths if w != kind.list_size)
        if first != kind.list_size:
            raise ValueError(f"a row has {first} values, not {kind.list_size}")
        return pa.FixedSizeListArray.from_arrays(child, type=kind)
    made = pa.LargeListArray if pt.is_large_list(kind) else pa.ListArray
    return made.from_arrays(_offsets(widths, pt.is_large_list(kind)), child, type=kind)


def _shape(widths: list[int]) -> Any:
    """(rows, width) when all widths are the same."""
    return (len(widths), widths[0]) if widths.count(widths[0]) == len(widths) else widths


def _offsets(widths: Any, is_large: bool) -> pa.Array:
    from itertools import accumulate

    if isinstance(widths, tuple):
        rows, width = widths
        ends: Iterable[int] = range(0, rows * width + 1, width) if width else [0] * (rows + 1)
    else:
        ends = accumulate(widths, initial=0)
    return pa.array(list(ends), pa.int64() if is_large else pa.int32())
