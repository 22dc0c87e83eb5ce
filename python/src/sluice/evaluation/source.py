"""A table to evaluate on, read in chunks, and only the columns that are asked for: from memory, or lazily from a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from sluice.evaluation.errors import EvaluationError
from sluice.rows import table_of

CHUNK_ROWS = 4096
"""Rows of a chunk at most: many for a batch, few enough that a window of chunks of wide rows stays in memory."""
CSV_BLOCK_BYTES = 4 * 1024 * 1024
_TEXT_FILES = {".csv": ",", ".tsv": "\t"}
_TAKEN = "a pyarrow, pandas or polars table, a dict of columns, or the path of a .parquet, .csv, .tsv or .arrow file"


class TableSource:
    """Rows that can be read more than once, always in the same order.

    ``columns``: names, in order. ``is_text``: a file without types, whose values take the types that they are compared with.
    """

    def __init__(self, data: Any, name: str):
        self.name = name
        self._path = Path(data) if isinstance(data, (str, Path)) else None
        self._table: pa.Table | None = None
        self.is_text = self._path is not None and self._path.suffix.lower() in _TEXT_FILES
        if self._path is None:
            self._table = _table(data, name)
        else:
            self.name = str(self._path)
        with self._named():
            self.columns = self._column_names()
        twice = next((one for one in self.columns if self.columns.count(one) > 1), None)
        if twice is not None:
            raise EvaluationError(f"{self.name} has two columns named {twice!r}; rename one of them")

    def require(self, columns: Sequence[str], what: str) -> None:
        """Raises EvaluationError when a column is not there."""
        for column in columns:
            if column not in self.columns:
                raise EvaluationError(
                    f"{self.name} has no column {column!r}, which is to hold {what}; its columns are {', '.join(self.columns)}"
                )

    def chunks(
        self, columns: Sequence[str], types: Mapping[str, pa.DataType] | None = None, *, empty_is_null: bool = False
    ) -> Iterator[pa.Table]:
        """Tables of at most ``CHUNK_ROWS`` rows.

        Args:
            types: of columns of a text file; by default they are inferred from its beginning.
            empty_is_null: an empty text of a text file is null, and no other is.
        """
        names = list(dict.fromkeys(columns))
        with self._named():
            if self._table is not None:
                selected = self._table.select(names)
                batches: Iterator[pa.RecordBatch] = iter(selected.to_batches(max_chunksize=CHUNK_ROWS))
            else:
                batches = self._file_batches(names, types or {}, empty_is_null)
            for batch in batches:
                for first in range(0, batch.num_rows, CHUNK_ROWS):
                    yield pa.Table.from_batches([batch.slice(first, CHUNK_ROWS)]).select(names)

    def _file_batches(
        self, columns: list[str], types: Mapping[str, pa.DataType], empty_is_null: bool
    ) -> Iterator[pa.RecordBatch]:
        path = self._path
        assert path is not None
        if self.is_text:
            known = {name: kind for name, kind in types.items() if name in columns}
            nulls = {"null_values": [""], "strings_can_be_null": True} if empty_is_null else {}
            convert = csv.ConvertOptions(include_columns=columns, column_types=known, **nulls)
            yield from self._csv(path, convert)
        elif path.suffix.lower() == ".parquet":
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(CHUNK_ROWS, columns=columns)
        else:
            with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as file:
                for at in range(file.num_record_batches):
                    yield file.get_batch(at).select(columns)

    def _csv(self, path: Path, convert: csv.ConvertOptions | None = None) -> csv.CSVStreamingReader:
        return csv.open_csv(
            path,
            read_options=csv.ReadOptions(block_size=CSV_BLOCK_BYTES),
            parse_options=csv.ParseOptions(delimiter=_TEXT_FILES[path.suffix.lower()], newlines_in_values=True),
            convert_options=convert,
        )

    def _column_names(self) -> list[str]:
        if self._table is not None:
            return self._table.column_names
        path = self._path
        assert path is not None
        suffix = path.suffix.lower()
        if self.is_text:
            with self._csv(path) as reader:
                return reader.schema.names
        if suffix == ".parquet":
            return pq.read_schema(path).names
        if suffix == ".arrow":
            with pa.OSFile(str(path)) as source, pa.ipc.open_file(source) as file:
                return file.schema.names
        raise EvaluationError(f"{path} is no file that can be read here; give {_TAKEN}")

    def _named(self) -> _Named:
        return _Named(self.name)


class _Named:
    """Errors of a reader name the file."""

    def __init__(self, name: str):
        self._name = name

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise EvaluationError(f"{self._name} is not there") from None
        if isinstance(error, (pa.ArrowException, OSError)) and not isinstance(error, EvaluationError):
            raise EvaluationError(f"{self._name} cannot be read: {error}") from None


def _table(data: Any, name: str) -> pa.Table:
    is_table = hasattr(data, "__arrow_c_stream__") or (hasattr(data, "columns") and hasattr(data, "shape"))
    if not is_table and not isinstance(data, (Mapping, pa.RecordBatch, pa.RecordBatchReader)):
        raise EvaluationError(f"{name} is {type(data).__name__}; give {_TAKEN}")
    try:
        return table_of((data,), {}, lambda: None)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise EvaluationError(f"{name} cannot be read: {error}") from None
