"""``inference_store('group'[, from[, until]])`` in SQL: the files of a group's inference store, fetched and read as one table."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sluice.inferences import FOLDER_PREFIX, InferenceFile, InferenceFiles, Span, iso
from sluice.query_rewrite import STORE, QueryError, StoreCall, string_of
from sluice.transport import Transport

DISK_SHARE_MAX = 0.9
"""Of what is free where temporary files go: what else writes there needs room as well."""
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
LEAST_MS, MOST_MS = -62_135_596_800_000, 253_402_300_799_999
"""The times that Python has: years 1 to 9999."""


@dataclass(frozen=True)
class Fetching:
    """How far the files of one ``inference_store`` are; told before the first and after each of them."""

    group: str
    files: int
    files_total: int
    bytes: int
    bytes_total: int


@dataclass(frozen=True)
class StoredRows:
    """A SELECT of the rows of an ``inference_store``."""

    text: str
    row_groups: int
    """Each is read by a thread of its own; 0: there are no rows."""


Progress = Callable[[Fetching], object]


class StoredInferences:
    """What the ``inference_store`` calls of one query read. Their files lie on this machine until :meth:`close`.

    ``connection``: evaluates arguments, which may be any expression without columns; its time zone is UTC from then on, as the
    times of the table are.
    """

    def __init__(self, duckdb: Any, connection: Any, transport: Transport, params: Mapping[str, Any], progress: Progress | None):
        self._error = duckdb.Error
        self._connection = connection
        self._transport = transport
        self._params = params
        self._progress = progress
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._rows: dict[tuple[str, Span], StoredRows] = {}
        self._shown: dict[str, str] = {}
        connection.execute("SET TimeZone = 'UTC'")

    def rows(self, call: StoreCall, type_text: Callable[[pa.DataType], str]) -> StoredRows:
        """The same group and times are fetched once.

        Raises QueryError for arguments that say no group or no time, ServerError, FileGoneError.
        """
        asked = self._asked(call)
        if asked not in self._rows:
            store = InferenceFiles(self._transport, *asked)
            paths = self._fetched(store)
            groups = sum(pq.read_metadata(path).num_row_groups for path in paths)
            text = _reading(paths, store.span) if paths else _nothing(store, type_text)
            self._rows[asked] = StoredRows(text, groups)
        return self._rows[asked]

    def plain(self, message: str) -> str:
        """A message of DuckDB, with what a file has rows of in place of its path, and without advice about our own reading."""
        for path, shown in self._shown.items():
            if path in message:
                told = message.split("\n\n", 1)[0].replace(f'file "{path}"', shown).replace(path, shown)
                return f"{told}. Versions with other columns answered; give {STORE} times that hold rows of one of them"
        return message

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def _asked(self, call: StoreCall) -> tuple[str, Span]:
        group = self._value(call, 0, "VARCHAR", "the name of a scaling group, as a text in quotes")
        start, end = (self._time(call, place) for place in (1, 2))
        if start is not None and end is not None and end <= start:
            raise QueryError(f"{STORE} is asked for rows until {iso(end)}, which is not after {iso(start)}{call.place}")
        return group, Span(start, end)

    def _time(self, call: StoreCall, place: int) -> datetime | None:
        if len(call.arguments) <= place:
            return None
        at_ms = self._value(call, place, "TIMESTAMPTZ", "a time, as '2026-11-01' or now() - interval 1 hour", "epoch_ms")
        if at_ms is None:
            return None
        return EPOCH + timedelta(milliseconds=min(MOST_MS, max(LEAST_MS, at_ms)))

    def _value(self, call: StoreCall, place: int, kind: str, takes: str, function: str = "") -> Any:
        argument = call.arguments[place]
        named = {name: self._params[name] for name in argument.parameters if name in self._params}
        query = f"SELECT {function}(x::{kind}) FROM ({argument.text})"
        try:
            ((value,),) = self._connection.execute(query, named).fetchall()
        except (self._error, ValueError) as error:
            told = str(error).split("\n\nLINE ", 1)[0].removesuffix(" when casting from source column x")
            raise QueryError(f"{STORE} takes {takes}{call.place}: {told}") from None
        if value is None and place == 0:
            raise QueryError(f"{STORE} takes {takes}, not null{call.place}")
        return value

    def _fetched(self, store: InferenceFiles) -> list[Path]:
        files = list(store.listed())
        if not files:
            return []
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX)
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        _check_room(store, files, folder)
        total = sum(file.bytes for file in files)
        done = 0
        self._tell(Fetching(store.group, 0, len(files), 0, total))
        paths = []
        with closing(store.fetched(files, folder)) as fetched:
            for file, path in fetched:
                self._shown[str(path)] = str(file)
                paths.append(path)
                done += file.bytes
                self._tell(Fetching(store.group, len(paths), len(files), done, total))
        return paths

    def _tell(self, fetching: Fetching) -> None:
        if self._progress is not None:
            self._progress(fetching)


def _check_room(store: InferenceFiles, files: list[InferenceFile], folder: Path) -> None:
    needed = sum(file.bytes for file in files)
    free = shutil.disk_usage(folder).free
    if needed > free * DISK_SHARE_MAX:
        raise QueryError(
            f"{STORE}('{store.group}') has {len(files):,} files of {needed / 2**30:.1f} GiB, which go to "
            f"{folder.parent.parent}, where {free / 2**30:.1f} GiB are free; ask for "
            "less time, or set TMPDIR to a folder with more room"
        )


def _reading(paths: list[Path], span: Span) -> str:
    bounds = [f'"time" {sign} {string_of(iso(at))}::TIMESTAMPTZ' for sign, at in ((">=", span.start), ("<", span.end)) if at]
    where = f" WHERE {' AND '.join(bounds)}" if bounds else ""
    return f"SELECT * FROM read_parquet([{', '.join(string_of(str(path)) for path in paths)}], union_by_name = true){where}"


def _nothing(store: InferenceFiles, type_text: Callable[[pa.DataType], str]) -> str:
    """The columns that there would be. Of a group whose columns nobody declared, any member may be asked for."""
    kinds = {field.name: "VARIANT" if pa.types.is_null(field.type) else type_text(field.type) for field in store.empty_schema()}
    columns = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in kinds.items())
    return f"SELECT {columns} WHERE false"
