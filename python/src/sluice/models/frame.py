"""The data frame that ``predict`` gets: Arrow columns under names, and the ways out of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import pyarrow as pa
from pyarrow import types as pt

if TYPE_CHECKING:
    import numpy
    import pandas
    import polars

_TAKEN = "a pyarrow Table or RecordBatch, a dict of columns, or an object with __arrow_c_stream__ (polars, pandas)"


class DataFrame:
    """Columns of one length over Arrow. It imports pandas, polars and NumPy only when it is asked for theirs.

    ``frame["sqft"]`` is a pyarrow ChunkedArray, ``frame[["sqft", "rooms"]]`` a frame of these columns; iterating gives the names.
    """

    __slots__ = ("_table",)

    def __init__(self, data: Any):
        self._table = _table_of(data)

    @classmethod
    def from_arrow(cls, data: Any) -> DataFrame:
        """A frame over a pyarrow Table, RecordBatch or stream, or over a dict of columns; nothing is copied."""
        return cls(data)

    @property
    def schema(self) -> pa.Schema:
        return self._table.schema

    @property
    def columns(self) -> list[str]:
        return list(self._table.column_names)

    @property
    def num_rows(self) -> int:
        return self._table.num_rows

    @property
    def shape(self) -> tuple[int, int]:
        return self._table.shape

    def __len__(self) -> int:
        return self._table.num_rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __contains__(self, name: object) -> bool:
        return name in self._table.column_names

    @overload
    def __getitem__(self, name: str) -> pa.ChunkedArray: ...

    @overload
    def __getitem__(self, name: list[str]) -> DataFrame: ...

    def __getitem__(self, name: str | list[str]) -> pa.ChunkedArray | DataFrame:
        return self.select(name) if isinstance(name, list) else self.column(name)

    def __repr__(self) -> str:
        columns = ", ".join(f"{field.name}: {field.type}" for field in self.schema)
        return f"<sluice.DataFrame of {len(self)} rows; {columns}>"

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._table.__arrow_c_stream__(requested_schema)

    def __array__(self, *_: Any, **__: Any) -> Any:
        """Refused: NumPy, and estimators that call it, would take the names for the rows."""
        raise TypeError("a sluice.DataFrame is no array by itself; hand over df.to_pandas(), or df.to_numpy()")

    def column(self, name: str) -> pa.ChunkedArray:
        """One column. Raises KeyError that names the columns there are."""
        self._check(name)
        return self._table.column(name)

    def select(self, names: Sequence[str]) -> DataFrame:
        """A frame of these columns, in this order."""
        for name in names:
            self._check(name)
        return DataFrame(self._table.select(list(names)))

    def to_arrow(self) -> pa.Table:
        return self._table

    def to_pandas(self) -> pandas.DataFrame:
        """Nulls are NaN or None, as pandas has them."""
        return self._table.to_pandas()

    def to_polars(self) -> polars.DataFrame:
        import polars

        made = polars.from_arrow(self._table)
        return made if isinstance(made, polars.DataFrame) else made.to_frame()

    def to_pydict(self) -> dict[str, list[Any]]:
        return self._table.to_pydict()

    def to_numpy(self) -> numpy.ndarray:
        """(rows, columns) in the narrowest type that holds all columns; nulls are NaN. One column of lists of one length is
        (rows, length). Columns that are no numbers make an array of objects."""
        import numpy

        if self._table.num_columns == 1 and _is_list(self.schema.types[0]):
            return _matrix_of_lists(self._table.column(0).combine_chunks(), self.columns[0])
        columns = [column.to_numpy() for column in self._table.columns]
        if not columns:
            return numpy.empty((len(self), 0))
        if any(column.dtype.kind not in "fiub" for column in columns):
            columns = [column.astype(object) for column in columns]
        return numpy.column_stack(columns)

    def _check(self, name: str) -> None:
        if name not in self._table.column_names:
            raise KeyError(f"there is no column {name!r}; the columns are {', '.join(self.columns) or 'none'}")


def _table_of(data: Any) -> pa.Table:
    if isinstance(data, DataFrame):
        return data.to_arrow()
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, dict):
        return pa.table(data)
    if hasattr(data, "__arrow_c_stream__") and not isinstance(data, (pa.Array, pa.ChunkedArray)):
        return pa.RecordBatchReader.from_stream(data).read_all()
    raise TypeError(f"a DataFrame cannot be made of {type(data).__name__}; it takes {_TAKEN}")


def _is_list(kind: pa.DataType) -> bool:
    return pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind)


def _matrix_of_lists(column: pa.Array, name: str) -> numpy.ndarray:
    flat = column.flatten().to_numpy(zero_copy_only=False)
    rows = len(column)
    width = len(flat) // rows if rows else getattr(column.type, "list_size", 0)
    lengths = set(column.value_lengths().to_pylist()) if not pt.is_fixed_size_list(column.type) else {width}
    if column.null_count or (rows and lengths != {width}):
        raise ValueError(f"column {name!r} has lists of different lengths, or nulls, which no matrix holds")
    return flat.reshape(rows, width)
