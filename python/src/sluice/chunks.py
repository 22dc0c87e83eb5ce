"""A table sent in chunks: cut, bounded in flight, joined in row order; a failure cancels what is in flight."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from sluice.errors import CallFailedError, ChunkFailedError, ConnectionError, ServerError, SluiceError, TimeoutError
from sluice.handle import AsyncFunctionCallHandle, checked_timeout
from sluice.results import Result
from sluice.transport import ANSWER_S, Late, Stopped, ending, left_s

CONCURRENT_CHUNKS_MAX = 1024
"""Each chunk in flight holds a thread and a connection."""
CLOSING_S = 10.0
"""How long calls that nobody waits for any more are cancelled behind a run: longer than a busy server takes to answer. A process
that ends waits for it."""
CLOSING_THREADS = 16
ON_ERROR = ("raise", "null")


class Submit(Protocol):
    """``key`` finds the call where Late or Stopped is raised and the server may have taken the rows all the same."""

    def __call__(
        self, table: pa.Table, *, key: str, end: float | None, stop: threading.Event | None = None
    ) -> AsyncFunctionCallHandle: ...


def _positive(option: str, value: Any, most: int | None = None) -> int:
    is_number = hasattr(value, "__index__") and not isinstance(value, bool)
    if not is_number or value < 1 or (most is not None and value > most):
        bound = "of at least 1" if most is None else f"from 1 to {most}"
        raise ValueError(f"{option} is {value!r}; it takes a whole number {bound}")
    return int(value)


def ranges(rows: int, chunk_size: int | None, num_chunks: int | None) -> list[tuple[int, int]]:
    """(first row, end) of every chunk. ``num_chunks`` gives exactly that many, but never more than rows.

    Raises ValueError when both or none of the two are given.
    """
    if (chunk_size is None) == (num_chunks is None):
        given = "neither chunk_size nor num_chunks is given" if chunk_size is None else "both chunk_size and num_chunks are given"
        raise ValueError(f"{given}; give exactly one of them")
    if num_chunks is not None:
        count = min(_positive("num_chunks", num_chunks), rows)
        return [(rows * i // count, rows * (i + 1) // count) for i in range(count)]
    size = _positive("chunk_size", chunk_size)
    return [(start, min(rows, start + size)) for start in range(0, rows, size)]


@dataclass(frozen=True)
class ChunkOptions:
    concurrent_chunks: int
    timeout: float | None
    on_error: str
    progress: bool

    def __post_init__(self) -> None:
        _positive("concurrent_chunks", self.concurrent_chunks, CONCURRENT_CHUNKS_MAX)
        checked_timeout(self.timeout)
        if self.on_error not in ON_ERROR:
            raise ValueError(f'on_error is {self.on_error!r}; it takes "raise" or "null"')


class OpenChunk:
    """Rows of a chunk that the server has not refused. ``places``: where all of them stand in the whole table."""

    def __init__(self, table: pa.Table, places: Sequence[int]):
        self.table = table
        self._places = places
        self._rows = list(range(table.num_rows))
        self._refused: dict[int, dict[str, Any]] = {}

    def refuse(self, error: ServerError) -> bool:
        """Takes out the row that the error names, or the only one where it is too large; False where it is no row's fault. Where
        the row is null in a column that takes no null, all nulls of that column go at once."""
        row = 0 if error.is_too_large and len(self._rows) == 1 else error.refused_row
        if row is None or row >= len(self._rows):
            return False
        name = error.problem.get("field")
        nulls = self.table.column(name).is_null().to_pylist() if name in self.table.column_names else []
        out = {at for at, is_null in enumerate(nulls) if is_null} if row < len(nulls) and nulls[row] else {row}
        for at in out:
            whole = self._rows[at]
            self._refused[whole] = {"code": error.code, "message": error.at_row(self._places[whole])}
        left = [at for at in range(len(self._rows)) if at not in out]
        self._rows = [self._rows[at] for at in left]
        self.table = self.table.take(pa.array(left, pa.int64()))
        return True

    def halves(self) -> list[OpenChunk]:
        """What is left, cut in two."""
        places = [self._places[row] for row in self._rows]
        middle = len(places) // 2
        return [
            OpenChunk(self.table.slice(0, middle), places[:middle]),
            OpenChunk(self.table.slice(middle), places[middle:]),
        ]

    def whole(self, result: Result) -> Result:
        """The result with a null and an error for each row that was refused."""
        if not self._refused:
            return result
        at = {row: i for i, row in enumerate(self._rows)}
        values = result.values.take(pa.array([at.get(row) for row in range(len(at) + len(self._refused))], pa.int64()))
        errors = {self._rows[row]: error for row, error in result.errors.items()}
        return Result(values, self._refused | errors)


def _known_type(results: Sequence[Result]) -> pa.DataType:
    """The first type that a server has answered with; a chunk that was never answered has nulls without one."""
    types = [result.values.type for result in results]
    return next((kind for kind in types if not pa.types.is_null(kind)), types[0])


def _one_after_the_other(parts: Sequence[Result]) -> Result:
    kind, values, errors, before = _known_type(parts), [], {}, 0
    for part in parts:
        values.append(part.values.cast(kind))
        errors.update({before + row: error for row, error in part.errors.items()})
        before += len(part.values)
    return Result(pa.concat_arrays(values), errors)


def _give_up(handle: AsyncFunctionCallHandle, end: float) -> None:
    if time.monotonic() < end:
        with suppress(SluiceError):
            handle.cancel(left_s(end))


class ChunkedCall:
    """One run: what is in flight, what is done, and the first failure."""

    def __init__(
        self,
        submit: Submit,
        table: pa.Table,
        cuts: list[tuple[int, int]],
        options: ChunkOptions,
        output_type: pa.DataType | None,
    ):
        self._submit = submit
        self._table = table
        # An empty table goes as one empty call, so that the server says the result's type or what is wrong.
        self._cuts = cuts or [(0, 0)]
        self._options = options
        self._output_type = output_type
        self._in_flight: set[AsyncFunctionCallHandle] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._closing = ThreadPoolExecutor(CLOSING_THREADS, thread_name_prefix="sluice-closing")
        self._results: list[Result | None] = [None] * len(self._cuts)

    def run(self) -> pa.Table:
        width = min(self._options.concurrent_chunks, len(self._cuts))
        bar = self._bar()
        threads = ThreadPoolExecutor(width, thread_name_prefix="sluice-chunk")
        running: dict[Future[Result], int] = {}
        try:
            self._drive(threads, width, bar, running)
        except BaseException:
            self._stop.set()
            end = time.monotonic() + ANSWER_S
            self._cancel(end)
            wait(running, timeout=left_s(end))
            raise
        finally:
            # What a silent server keeps under way ends behind the run; a submission among it cancels its call itself.
            threads.shutdown(wait=False, cancel_futures=True)
            self._closing.shutdown(wait=False)
            bar.close()
        return self._joined()

    def _drive(self, threads: ThreadPoolExecutor, width: int, bar: Any, running: dict[Future[Result], int]) -> None:
        upcoming = 0
        while upcoming < len(self._cuts) or running:
            while upcoming < len(self._cuts) and len(running) < width:
                running[threads.submit(self._chunk, upcoming)] = upcoming
                upcoming += 1
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in sorted(finished, key=running.__getitem__):
                index = running.pop(future)
                first, end = self._cuts[index]
                try:
                    self._results[index] = future.result()
                except (SluiceError, ValueError) as error:
                    if first == end:
                        raise
                    raise ChunkFailedError(index, first, end, error) from error
                bar.update(end - first)

    def _chunk(self, index: int) -> Result:
        first, end = self._cuts[index]
        chunk = OpenChunk(self._table.slice(first, end - first), range(first, end))
        return self._finished(chunk, ending(self._options.timeout))

    def _finished(self, chunk: OpenChunk, end: float | None) -> Result:
        """The result of a chunk: of one call, or of its halves where failed rows become null and it is too large for one."""
        try:
            handle = self._submitted(chunk, end)
        except TimeoutError:
            if self._options.on_error == "raise":
                raise
            return chunk.whole(self._too_late(chunk.table.num_rows))
        except ServerError as error:
            if self._options.on_error == "raise" or not error.is_too_large or chunk.table.num_rows < 2:
                raise
            return chunk.whole(_one_after_the_other([self._finished(half, end) for half in chunk.halves()]))
        with self._lock:
            self._in_flight.add(handle)
        if self._stop.is_set():
            self._behind(_give_up, handle)
            raise Stopped
        result = self._settled(handle, end)
        with self._lock:
            self._in_flight.discard(handle)
        if result is None:
            return chunk.whole(self._too_late(chunk.table.num_rows))
        if result.errors and self._options.on_error == "raise":
            raise CallFailedError(handle.call_id, result.errors, result.values)
        with suppress(SluiceError):  # the result is here; the server drops its own later without the word
            handle.acknowledge(CLOSING_S if end is None else left_s(end))
        return chunk.whole(result)

    def _submitted(self, chunk: OpenChunk, end: float | None) -> AsyncFunctionCallHandle:
        """The call of what the server takes of a chunk: rows that it refuses stay out, where failed rows become null."""
        while not self._stop.is_set():
            key = uuid.uuid4().hex
            try:
                return self._submit(chunk.table, key=key, end=end, stop=self._stop)
            except ServerError as error:
                if self._options.on_error == "raise" or not chunk.refuse(error):
                    raise
            except Late as late:
                self._behind(self._find_and_cancel, chunk.table, key)
                raise TimeoutError(None, self._options.timeout or 0.0, key) from late.__cause__
            except Stopped as stopped:
                if isinstance(stopped.__cause__, ConnectionError):
                    self._behind(self._find_and_cancel, chunk.table, key)
                raise
        raise Stopped

    def _settled(self, handle: AsyncFunctionCallHandle, end: float | None) -> Result | None:
        """The result. Where failed rows become null, a chunk that is too late is cancelled and what it has is kept; None where
        the server does not even say that."""
        try:
            return handle.result(left_s(end), stop=self._stop)
        except TimeoutError as late:
            if self._options.on_error == "raise":
                raise TimeoutError(handle.call_id, self._options.timeout or 0.0) from late.__cause__
        try:
            handle.cancel(0)
            kept = handle.result(CLOSING_S, stop=self._stop)
        except (TimeoutError, ServerError) as error:
            if isinstance(error, ServerError) and not error.retryable:
                raise
            self._behind(_give_up, handle)
            return None
        errors = {
            row: {**error, "message": self._lateness()} if error.get("code") == "row_cancelled" else error
            for row, error in kept.errors.items()
        }
        return Result(kept.values, errors)

    def _lateness(self) -> str:
        return f"the chunk was not finished after {self._options.timeout:g} s and was cancelled"

    def _too_late(self, rows: int) -> Result:
        """Of a chunk of which the server says nothing."""
        error = {"code": "row_cancelled", "message": self._lateness()}
        return Result(pa.nulls(rows, self._output_type or pa.null()), dict.fromkeys(range(rows), error))

    def _cancel(self, end: float) -> None:
        """Ends the calls in flight on the server, which also ends the polls that wait for them. Waits until ``end`` for that."""
        with self._lock:
            handles = list(self._in_flight)
        late = time.monotonic() + CLOSING_S
        wait([self._closing.submit(_give_up, handle, late) for handle in handles], timeout=left_s(end))

    def _behind(self, work: Callable[..., None], *args: Any) -> None:
        """Behind what goes on; in this thread where nothing does."""
        late = time.monotonic() + CLOSING_S
        if self._stop.is_set():
            work(*args, late)
        else:
            self._closing.submit(work, *args, late)

    def _find_and_cancel(self, table: pa.Table, key: str, end: float) -> None:
        """Of a submission without an answer, which may be a call: the same again tells its id."""
        if time.monotonic() < end:
            with suppress(SluiceError, Late):
                _give_up(self._submit(table, key=key, end=end), end)

    def _joined(self) -> pa.Table:
        results = [result for result in self._results if result is not None]
        kind = _known_type(results)
        columns = {"result": pa.chunked_array([result.values.cast(kind) for result in results], type=kind)}
        if self._options.on_error == "null":
            columns["error"] = self._errors(results)
        return pa.table(columns)

    def _errors(self, results: list[Result]) -> pa.ChunkedArray:
        """One JSON text for each row that failed, as the server's own ``error`` column; null for the others."""
        chunks = []
        for result in results:
            texts: list[str | None] = [None] * len(result.values)
            for row, error in result.errors.items():
                texts[row] = json.dumps(error, ensure_ascii=False)
            chunks.append(pa.array(texts, pa.string()))
        return pa.chunked_array(chunks, type=pa.string())

    def _bar(self) -> Any:
        # Imported here, since most runs show no bar and a handler process never does.
        from tqdm.auto import tqdm

        return tqdm(total=self._table.num_rows, unit="row", unit_scale=True, disable=not self._options.progress)
