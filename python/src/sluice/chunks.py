"""A table sent in chunks: cut, bounded in flight, joined in row order; a failure cancels what is in flight."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sluice.errors import CallFailedError, ChunkFailedError, ServerError, SluiceError, TimeoutError
from sluice.handle import AsyncFunctionCallHandle, checked_timeout
from sluice.results import Result
from sluice.transport import Stopped

CONCURRENT_CHUNKS_MAX = 1024
"""Each chunk in flight holds a thread and a connection."""
ON_ERROR = ("raise", "null")

Submit = Callable[[pa.Table], AsyncFunctionCallHandle]


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
    """The rows of a chunk that the server has not refused, from ``first`` on in the whole table."""

    def __init__(self, table: pa.Table, first: int):
        self.table = table
        self._first = first
        self._rows = list(range(table.num_rows))
        self._refused: dict[int, dict[str, Any]] = {}

    def refuse(self, error: ServerError) -> bool:
        """Takes out the row that the error names; False where it names none. Where it is null in a column that takes no null,
        all nulls of that column go at once."""
        row = error.refused_row
        if row is None or row >= len(self._rows):
            return False
        name = error.problem.get("field")
        nulls = self.table.column(name).is_null().to_pylist() if name in self.table.column_names else []
        out = {at for at, is_null in enumerate(nulls) if is_null} if row < len(nulls) and nulls[row] else {row}
        for at in out:
            whole = self._rows[at]
            self._refused[whole] = {"code": error.code, "message": error.at_row(self._first + whole)}
        left = [at for at in range(len(self._rows)) if at not in out]
        self._rows = [self._rows[at] for at in left]
        self.table = self.table.take(pa.array(left, pa.int64()))
        return True

    def whole(self, result: Result) -> Result:
        """The result with a null and an error for each row that was refused."""
        if not self._refused:
            return result
        at = {row: i for i, row in enumerate(self._rows)}
        values = result.values.take(pa.array([at.get(row) for row in range(len(at) + len(self._refused))], pa.int64()))
        errors = {self._rows[row]: error for row, error in result.errors.items()}
        return Result(values, self._refused | errors)


class ChunkedCall:
    """One run: what is in flight, what is done, and the first failure."""

    def __init__(self, submit: Submit, table: pa.Table, cuts: list[tuple[int, int]], options: ChunkOptions):
        self._submit = submit
        self._table = table
        # An empty table goes as one empty call, so that the server says the result's type or what is wrong.
        self._cuts = cuts or [(0, 0)]
        self._options = options
        self._in_flight: set[AsyncFunctionCallHandle] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._results: list[Result | None] = [None] * len(self._cuts)

    def run(self) -> pa.Table:
        width = min(self._options.concurrent_chunks, len(self._cuts))
        bar = self._bar()
        threads = ThreadPoolExecutor(width, thread_name_prefix="sluice-chunk")
        try:
            self._drive(threads, width, bar)
        except BaseException:
            self._stop.set()
            self._cancel()
            raise
        finally:
            # A submission that was under way when the run stopped cancels its call itself.
            threads.shutdown(wait=True, cancel_futures=True)
            bar.close()
        return self._joined()

    def _drive(self, threads: ThreadPoolExecutor, width: int, bar: Any) -> None:
        running: dict[Future[Result], int] = {}
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
        chunk = OpenChunk(self._table.slice(first, end - first), first)
        handle = self._submitted(chunk)
        with self._lock:
            self._in_flight.add(handle)
        if self._stop.is_set():
            handle.cancel()
            raise Stopped
        result = self._settled(handle)
        if result.errors and self._options.on_error == "raise":
            with self._lock:
                self._in_flight.discard(handle)
            raise CallFailedError(handle.call_id, result.errors, result.values)
        with self._lock:
            self._in_flight.discard(handle)
        with suppress(SluiceError):  # the result is here; the server drops its own later without the word
            handle.acknowledge()
        return chunk.whole(result)

    def _submitted(self, chunk: OpenChunk) -> AsyncFunctionCallHandle:
        """The call of what the server takes of a chunk: rows that it refuses stay out, where failed rows become null."""
        while not self._stop.is_set():
            try:
                return self._submit(chunk.table)
            except ServerError as error:
                if self._options.on_error == "raise" or not chunk.refuse(error):
                    raise
        raise Stopped

    def _settled(self, handle: AsyncFunctionCallHandle) -> Result:
        """The result. Where failed rows become null, a chunk that is too late is cancelled and what it has is kept."""
        try:
            return handle.result(self._options.timeout, stop=self._stop)
        except TimeoutError:
            if self._options.on_error == "raise":
                raise
            handle.cancel()
            late = handle.result(stop=self._stop)
            message = f"the chunk was not finished after {self._options.timeout:g} s and was cancelled"
            errors = {
                row: {**error, "message": message} if error.get("code") == "row_cancelled" else error
                for row, error in late.errors.items()
            }
            return Result(late.values, errors)

    def _cancel(self) -> None:
        """Ends the calls in flight on the server, which also ends the polls that wait for them."""
        with self._lock:
            handles = list(self._in_flight)
        for handle in handles:
            with suppress(SluiceError):
                handle.cancel()

    def _joined(self) -> pa.Table:
        results = [result for result in self._results if result is not None]
        kind = results[0].values.type
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
