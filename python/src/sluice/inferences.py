"""What a scaling group was asked and answered: the Parquet files of its inference store (docs/decisions/0018)."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import date, datetime, time, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sluice.arrow_types import arrow_type
from sluice.artifacts import Artifacts
from sluice.errors import DeclarationError, ServerError, SluiceError
from sluice.models.schema import arrow_schema, output_field
from sluice.transport import Transport

PAGE = 1000
"""Files of a page, at most."""
FETCHES_MAX = 8
"""Files that are on their way at once, or wait to be read: a file is of 16 MiB or little more."""
TIME = pa.timestamp("ms", tz="UTC")
FIXED = pa.schema(
    [
        ("time", TIME),
        ("call_id", pa.string()),
        ("row", pa.int64()),
        ("model", pa.string()),
        ("model_version", pa.int32()),
        ("function_version", pa.string()),
        ("attempt", pa.int32()),
        ("batch_rows", pa.int32()),
        ("handler_ms", pa.float64()),
        ("status", pa.string()),
        ("error_code", pa.string()),
        ("error_message", pa.string()),
    ]
)
"""The columns of every file, before ``input`` and ``output``."""
BATCH_ROWS = 16_384
FOLDER_PREFIX = "sluice-inferences-"

When = datetime | date | str | None
"""A datetime or an ISO 8601 text, in UTC where it names no zone; a date is its midnight in UTC."""


class FileGoneError(SluiceError):
    """A file was listed, and its retention ended before it was read. What asks again does not find it listed any more."""

    code = "artifact_not_found"


class MixedColumnsError(SluiceError, ValueError):
    """Versions with columns of one name and types that do not go together answered in the range."""

    code = "schema_mismatch"


@dataclass(frozen=True)
class InferenceFile:
    """One Parquet file: an artifact by its ``digest``. ``start`` and ``end``: the times of its oldest and its newest row."""

    digest: str
    bytes: int
    rows: int
    start: datetime
    end: datetime
    model: str
    model_version: int
    function_version: str

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> InferenceFile:
        return cls(
            digest=document["digest"],
            bytes=document["bytes"],
            rows=document["rows"],
            start=instant("from", document["from"]),
            end=instant("until", document["until"]),
            model=document["model"],
            model_version=document["model_version"],
            function_version=document["function_version"],
        )

    def __str__(self) -> str:
        return f"the file of {self.rows:,} rows from {iso(self.start)} to {iso(self.end)}, of {self.model} {self.model_version}"


def instant(option: str, value: Any) -> Any:
    """A time in UTC; None stays None. Raises DeclarationError."""
    if value is None:
        return None
    given = value
    if isinstance(given, str):
        with suppress(ValueError):
            given = datetime.fromisoformat(given.strip().replace("Z", "+00:00"))
    elif isinstance(given, date) and not isinstance(given, datetime):
        given = datetime.combine(given, time())
    if not isinstance(given, datetime):
        raise DeclarationError(f'{option} is {value!r}; it takes a datetime, or a text as "2026-11-01" or "2026-11-01T12:00:00Z"')
    return given.replace(tzinfo=timezone.utc) if given.tzinfo is None else given.astimezone(timezone.utc)


def iso(at: datetime) -> str:
    """With milliseconds, which is what times are kept in."""
    return at.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Span:
    """From ``start`` up to, and without, ``end``; None: open."""

    start: datetime | None
    end: datetime | None

    @classmethod
    def of(cls, start: When, end: When) -> Span:
        span = cls(instant("start", start), instant("end", end))
        if span.start is not None and span.end is not None and span.end <= span.start:
            raise DeclarationError(f"end is {iso(span.end)}; it takes a time after start, which is {iso(span.start)}")
        return span

    def mask(self, times: Any) -> Any:
        """True for the times within; None: all are."""
        bounds = []
        if self.start is not None:
            bounds.append(pc.greater_equal(times, pa.scalar(self.start, pa.timestamp("us", "UTC"))))
        if self.end is not None:
            bounds.append(pc.less(times, pa.scalar(self.end, pa.timestamp("us", "UTC"))))
        return None if not bounds else bounds[0] if len(bounds) == 1 else pc.and_(*bounds)


class InferenceFiles:
    """The files of one group's inference store, as far as they have rows of a span."""

    def __init__(self, transport: Transport, group: str, span: Span):
        if not isinstance(group, str) or group in ("", ".", ".."):
            raise DeclarationError(f"group is {group!r}; it takes the name of a scaling group")
        self.group = group
        self.span = span
        self._transport = transport
        self._path = f"/v1/scaling-groups/{quote(group, safe='')}"

    def listed(self) -> Iterator[InferenceFile]:
        """By the time of their oldest row, page by page. Raises ServerError ``scaling_group_not_found``."""
        asked = {"from": self.span.start, "until": self.span.end}
        question: dict[str, Any] = {name: iso(at) for name, at in asked.items() if at is not None}
        known: set[str] = set()
        after = None
        while True:
            query = urlencode({**question, "limit": PAGE, **({} if after is None else {"after": after})})
            page = self._transport.request("GET", f"{self._path}/inference-files?{query}").json()
            for document in page["inference_files"]:
                # The same bytes are the same rows.
                if document["digest"] not in known:
                    known.add(document["digest"])
                    yield InferenceFile.of(document)
            after = page.get("next")
            if after is None:
                return

    def fetched(self, files: Iterable[InferenceFile], folder: Path) -> Generator[tuple[InferenceFile, Path], None, None]:
        """Each file where it lies in ``folder``, in their order; some are fetched ahead. Raises FileGoneError."""
        waiting: deque[tuple[InferenceFile, Future[Path]]] = deque()
        numbered = enumerate(files)
        with ThreadPoolExecutor(FETCHES_MAX, thread_name_prefix="sluice-inferences") as pool:
            try:
                while True:
                    while len(waiting) < FETCHES_MAX and (one := next(numbered, None)) is not None:
                        number, file = one
                        path = folder / f"{number:06}.parquet"
                        waiting.append((file, pool.submit(self._fetch, file, path)))
                    if not waiting:
                        return
                    file, fetching = waiting.popleft()
                    yield file, fetching.result()
            finally:
                for _, fetching in waiting:
                    fetching.cancel()

    def _fetch(self, file: InferenceFile, path: Path) -> Path:
        try:
            return Artifacts(self._transport).download(file.digest, path)
        except ServerError as error:
            if error.code != "artifact_not_found":
                raise
            raise FileGoneError(
                f"{file}, of group {self.group} is gone: its retention ended meanwhile. Ask again, or from a later time on."
            ) from None

    def batches(self, limit: int | None = None) -> Iterator[pa.RecordBatch]:
        """Rows of the span, file by file. A file is gone from this machine once it was read."""
        left = limit
        with (
            tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX) as folder,
            closing(self.fetched(self.listed(), Path(folder))) as fetched,
        ):
            for _, path in fetched:
                with pq.ParquetFile(path) as file:
                    for batch in file.iter_batches(BATCH_ROWS):
                        mask = self.span.mask(batch["time"])
                        rows = (batch if mask is None else batch.filter(mask)).slice(0, left)
                        left = None if left is None else left - rows.num_rows
                        if rows.num_rows > 0:
                            yield rows
                        if left == 0:
                            return
                path.unlink()

    def table(self, limit: int | None = None) -> pa.Table:
        """Raises MixedColumnsError."""
        found = [pa.Table.from_batches([batch]) for batch in self.batches(limit)]
        if not found:
            return self.empty_schema().empty_table()
        try:
            return pa.concat_tables(found, promote_options="permissive")
        except pa.ArrowException as error:
            raise MixedColumnsError(
                f"the rows of group {self.group} do not make one table: {error}. Versions with other columns answered; "
                "give start and end that hold rows of one of them, or read them with inference_batches"
            ) from None

    def empty_schema(self) -> pa.Schema:
        """What the files of the version that serves now would have; of columns that nobody declared, null."""
        document = self._transport.request("GET", self._path).json()
        inputs, outputs = document["inputs"], document["outputs"]
        kinds = [_declared(lambda: pa.struct(list(arrow_schema(inputs)))) if inputs else None]
        kinds.append(_declared(lambda: arrow_type(output_field(outputs)["type"])) if outputs else None)
        named = zip(("input", "output"), kinds, strict=True)
        return pa.schema([*FIXED, *((name, pa.null() if kind is None else kind) for name, kind in named)])


def _declared(make: Callable[[], pa.DataType]) -> pa.DataType | None:
    """None for columns of any type."""
    try:
        return make()
    except KeyError:
        return None
