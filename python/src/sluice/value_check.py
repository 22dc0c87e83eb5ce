"""Python values as Arrow, without loss. pyarrow's casts refuse what loses something, but from Python's values it makes an integer
of 1.5, a date of a datetime, and an infinite float32 of 1e300. `shared/arrow/value-check.ts` is the server's side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from itertools import chain, compress
from numbers import Integral
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types as pt

_NANOSECONDS = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1000, "ns": 1}
_EXACT = {int, bool, str, bytes, type(None)}
"""Types of values that every kind either holds exactly or refuses by itself."""
_FINE = object()


def exact_array(values: Any, kind: pa.DataType | None) -> pa.Array:
    """``values`` (a sequence, or a NumPy array of any dimensions) in the type ``kind``; None: in the type that they tell.

    Floats may round, as everywhere. Raises ValueError for what ``kind`` does not hold, and what pyarrow raises.
    """
    if getattr(values, "ndim", 1) > 1:
        return _from_dimensions(values, kind)
    try:
        made = pa.array(values, kind)
    except UnicodeEncodeError as error:
        raise ValueError(_without_utf8(values, kind, error)) from None
    made = made.combine_chunks() if isinstance(made, pa.ChunkedArray) else made
    if kind is None or _lost(values, made) is _FINE:
        return made
    rows = values if hasattr(values, "dtype") else list(values)
    at = _first_row(len(made), lambda start, end: _lost(rows[start:end], made.slice(start, end - start)) is not _FINE)
    lost = _lost(rows[at : at + 1], made.slice(at, 1))
    raise ValueError(f"row {at} has {_shown(lost)}, which would become another value; round or convert it first")


def _first_row(count: int, is_among: Callable[[int, int], bool]) -> int:
    """The first row of those that are looked for; ``is_among`` tells whether one lies in a range."""
    start, end = 0, count
    while end - start > 1:
        middle = (start + end) // 2
        start, end = (start, middle) if is_among(start, middle) else (middle, end)
    return start


def _shown(value: Any) -> str:
    text = str(value) if type(value).__module__ == "numpy" else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _without_utf8(values: Any, kind: pa.DataType | None, error: UnicodeEncodeError) -> str:
    def fails(start: int, end: int) -> bool:
        try:
            pa.array(rows[start:end], kind)
        except UnicodeEncodeError:
            return True
        return False

    rows = list(values)
    at = _first_row(len(rows), fails)
    way_on = 'replace it first, as text.encode(errors="replace").decode() does'
    return f"row {at} has {_shown(error.object)}, where {error.object[error.start]!r} has no UTF-8; {way_on}"


def _from_dimensions(values: Any, kind: pa.DataType | None) -> pa.Array:
    """Lists of lists, made of all values at once: pyarrow reads the mask of a masked array of one dimension only."""
    is_list = kind is None or pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)
    if not is_list or 0 in values.shape:
        return exact_array(list(values), kind)
    flat = exact_array(values.reshape(-1, *values.shape[2:]), None if kind is None else kind.value_type)
    rows = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return rows.cast(pa.list_(flat.type) if kind is None else kind)


def _lost(values: Iterable[Any], made: pa.Array) -> Any:
    """The first value that became another one in ``made``; _FINE where none did."""
    kind = made.type
    if not _may_lose(kind):
        return _FINE
    dtype = getattr(values, "dtype", None)
    if getattr(dtype, "kind", "O") != "O":
        return _lost_typed(values, dtype, made)
    if pt.is_floating(kind):
        return _overflown(values, made)
    if made.null_count:
        values, made = list(compress(values, made.is_valid().to_pylist())), made.drop_null()
    if pt.is_dictionary(kind):
        return _lost(values, made.dictionary_decode())
    if pt.is_map(kind):
        pairs = [pair for value in values for pair in (value.items() if isinstance(value, Mapping) else value)]
        return _first([([key for key, _ in pairs], made.keys), ([item for _, item in pairs], made.items)])
    if pt.is_struct(kind):
        return _lost_member(values, made)
    if pt.is_nested(kind):
        return _lost_item(values, made)
    return _lost_leaf(values, kind)


def _lost_typed(values: Any, dtype: Any, made: pa.Array) -> Any:
    """NumPy's values are cast safely, but for floats that get narrower and for days."""
    if pt.is_floating(made.type):
        return _FINE if dtype.itemsize * 8 <= made.type.bit_width else _overflown(values, made)
    if dtype.kind != "M" or not pt.is_date(made.type):
        return _FINE
    given = pa.array(values)
    is_other = pc.fill_null(pc.not_equal(made.cast(given.type), given), False)
    return next(compress(values, is_other.to_pylist()), _FINE)


def _may_lose(kind: pa.DataType) -> bool:
    if pt.is_dictionary(kind):
        return _may_lose(kind.value_type)
    if pt.is_map(kind):
        return _may_lose(kind.key_type) or _may_lose(kind.item_type)
    if pt.is_struct(kind):
        return True
    if pt.is_nested(kind):
        return _may_lose(kind.value_type)
    return pt.is_integer(kind) or pt.is_float16(kind) or pt.is_float32(kind) or pt.is_temporal(kind)


def _first(parts: Iterable[tuple[Iterable[Any], pa.Array]]) -> Any:
    return next((lost for values, made in parts if (lost := _lost(values, made)) is not _FINE), _FINE)


def _overflown(values: Iterable[Any], made: pa.Array) -> Any:
    wide = made.cast(pa.float32()) if pt.is_float16(made.type) else made
    # A sum of narrow floats, which pyarrow takes in float64, is finite where all are: it takes a fifth of the time of is_inf.
    if math.isfinite(pc.sum(wide, min_count=0).as_py()):
        return _FINE
    infinite = pc.fill_null(pc.is_inf(wide), False).to_pylist()
    return next((value for value in compress(values, infinite) if not math.isinf(value)), _FINE)


def _lost_item(values: Iterable[Any], made: pa.Array) -> Any:
    flat = made.flatten()
    if all(_is_exact(dtype, flat.type) for dtype in {getattr(value, "dtype", None) for value in values}):
        return _FINE
    items = chain.from_iterable(values)
    return _lost(items if pt.is_floating(flat.type) else list(items), flat)


def _is_exact(dtype: Any, kind: pa.DataType) -> bool:
    """Whether rows that are arrays need not be taken apart: what is too large for ``kind`` is refused already."""
    letter = getattr(dtype, "kind", "O")
    if pt.is_floating(kind):
        return letter in "iu" or (letter == "f" and dtype.itemsize * 8 <= kind.bit_width)
    return letter in "iu" and pt.is_integer(kind)


def _lost_member(values: Iterable[Any], made: pa.Array) -> Any:
    names = [field.name for field in made.type]
    known = set(names)
    rows = [value if isinstance(value, (dict, tuple)) else dict(value) for value in values]
    unknown = next((row for row in rows if isinstance(row, dict) and not known.issuperset(row)), _FINE)
    if unknown is not _FINE:
        return unknown
    columns = enumerate(zip(names, made.flatten(), strict=True))
    return _first(
        ([row[i] if isinstance(row, tuple) else row.get(name) for row in rows], column)
        for i, (name, column) in columns
        if _may_lose(column.type)
    )


def _lost_leaf(values: Iterable[Any], kind: pa.DataType) -> Any:
    for python_type in set(map(type, values)) - _EXACT:
        if issubclass(python_type, Integral):
            continue
        given: list[Any] = [value for value in values if type(value) is python_type]
        if python_type is float and all(map(float.is_integer, given)):
            continue
        loses = _loses(python_type, kind)
        lost = next((value for value in given if loses(value)), _FINE)
        if lost is not _FINE:
            return lost
    return _FINE


def _loses(python_type: type, kind: pa.DataType) -> Callable[[Any], bool]:
    """Whether a value of the type, which pyarrow took for ``kind``, is more than what ``kind`` holds."""
    if issubclass(python_type, date) and pt.is_date(kind):
        return lambda value: isinstance(value, datetime) and bool(value.hour or value.minute or value.second or _below(value))
    if pt.is_temporal(kind) and (hasattr(python_type, "microsecond") or hasattr(python_type, "microseconds")):
        step = _NANOSECONDS[getattr(kind, "unit", "ns")]
        return lambda value: _below(value) % step != 0
    return lambda value: hasattr(value, "__int__") and value != int(value)


def _below(value: Any) -> int:
    """The nanoseconds below a second of a datetime, a time or a timedelta; pandas' have some of their own."""
    micros = value.microseconds if hasattr(value, "microseconds") else value.microsecond
    return micros * 1000 + (getattr(value, "nanosecond", 0) or getattr(value, "nanoseconds", 0))
