"""Functions called with columns by position: ``catalog_call`` of Python, and what ``catalog_call`` of SQL is made of."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sluice.arrow_types import arrow_type
from sluice.errors import CallFailedError, ChunkFailedError, ServerError, SluiceError
from sluice.handle import AsyncFunctionCallHandle
from sluice.remote import Remote, RemoteFunction
from sluice.results import Result, decode
from sluice.rows import column_of, table_of
from sluice.transport import ARROW_STREAM, Stopped, back_off_s

CHUNK_ROWS = 4096
CALL_BYTES_MAX = 16 * 1024 * 1024
"""Bytes of one call; a chunk of larger rows goes as several calls. A single row above it goes alone."""
FIRST_WAIT_S = 1.0
"""A call that is answered within this costs one request; one that takes longer can be cancelled from then on."""
JOIN_S_MAX = 10.0
"""How long the end of a query waits for a server that does not answer."""
PASSING = ("queue_full", "shutting_down", "store_unavailable")
"""The server is full or restarts: what was asked is right, and is asked again."""
SHOWN_CHARACTERS = 60
ON_ERROR = ("raise", "null")


class CatalogCallError(SluiceError):
    """A row of a ``catalog_call`` is not ok.

    ``function``: its name; ``values``: the row's arguments by input; ``row``: its number, where the rows have one;
    ``error``: ``{"code", "message", "kind"?, "traceback"?}``.
    """

    def __init__(self, function: str, values: Mapping[str, Any], error: Mapping[str, Any], row: int | None = None):
        self.function = function
        self.values = dict(values)
        self.error = dict(error)
        self.row = row
        self.code = str(error.get("code", "handler_error"))
        shown = ", ".join(f"{name} = {_shown(value)}" for name, value in values.items())
        place = "the row" if row is None else f"row {row}"
        kind = f"{error['kind']}: " if error.get("kind") else ""
        cause = f"{kind}{error.get('message', '')} ({self.code})"
        super().__init__(f"catalog_call('{function}') failed for {place} ({shown}): {cause}")

    def __reduce__(self) -> Any:
        return type(self), (self.function, self.values, self.error, self.row)


def _shown(value: Any) -> str:
    text = "null" if value is None else repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def checked_on_error(on_error: str) -> str:
    if on_error not in ON_ERROR:
        raise ValueError(f'on_error is {on_error!r}; it takes "raise" or "null"')
    return on_error


@dataclass(frozen=True)
class Input:
    name: str
    json: Any
    """The declared TypeJson."""
    type: pa.DataType | None
    """None: any type."""
    nullable: bool


class CatalogFunction:
    """A function as it stands on the server, called with one column for each of its inputs, in their order.

    Raises ServerError ``function_not_found``, and ValueError for a function that takes a table of any columns.
    """

    def __init__(self, remote: Remote, name: str):
        self.name = name
        self.remote_function = remote.function(name)
        spec = self.remote_function.show()["spec"]
        if spec["inputs"] is None:
            raise ValueError(
                f"catalog_call gives arguments in the order of the inputs, and {name} takes a table of any columns; "
                f'call it with Remote().function("{name}")'
            )
        self.inputs = [_input(field) for field in spec["inputs"]]
        output = spec["output"]["type"]
        self.output_type = None if output == "any" else arrow_type(output)

    def check_count(self, count: int) -> None:
        if count == len(self.inputs):
            return
        takes = ", ".join(f"{one.name} ({one.json if isinstance(one.json, str) else one.type})" for one in self.inputs)
        raise ValueError(
            f"catalog_call('{self.name}', …) has {count} argument{'' if count == 1 else 's'}; "
            f"the function takes {len(self.inputs)}: {takes}"
        )

    def table(self, columns: list[pa.Array]) -> pa.Table:
        """The columns under the inputs' names, in the declared types. Raises ValueError naming the input."""
        arrays = {one.name: self._cast(column, one) for one, column in zip(self.inputs, columns, strict=True)}
        return table_of((pa.table(arrays),), {}, lambda: [{"name": one.name, "type": one.json} for one in self.inputs])

    def _cast(self, column: pa.Array | pa.ChunkedArray, one: Input) -> pa.Array | pa.ChunkedArray:
        if one.type is None or column.type == one.type:
            return column
        try:
            return column.cast(one.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise ValueError(f"catalog_call('{self.name}'): {one.name} takes {one.type}, not {column.type}: {error}") from None

    def absent(self, table: pa.Table) -> pa.ChunkedArray | None:
        """True for the rows with a null that the function does not take; None: there are none."""
        masks = [table[one.name].is_null() for one in self.inputs if not one.nullable and table[one.name].null_count > 0]
        if not masks:
            return None
        mask = masks[0]
        for other in masks[1:]:
            mask = pc.or_(mask, other)
        return mask

    def null_error(self, table: pa.Table, row: int, is_numbered: bool) -> CatalogCallError:
        values = row_values(table, row)
        name = next(one.name for one in self.inputs if not one.nullable and values[one.name] is None)
        message = (
            f"{name} is null, which the function does not take; leave such rows out, declare the input nullable, "
            "or let their results be null with on_error null"
        )
        return CatalogCallError(self.name, values, {"code": "schema_mismatch", "message": message}, row if is_numbered else None)


def _input(field: dict[str, Any]) -> Input:
    kind = field["type"]
    return Input(field["name"], kind, None if kind == "any" else arrow_type(kind), field["nullable"])


def row_values(table: pa.Table, row: int) -> dict[str, Any]:
    return {name: table[name][row].as_py() for name in table.column_names}


def _scatter(values: pa.Array, absent: pa.ChunkedArray) -> pa.Array:
    """Results of the rows that were sent in the places of all rows; null where a row was absent."""
    sent = pc.invert(absent)
    places = pc.subtract(pc.cumulative_sum(sent.cast(pa.int64())), 1)
    taken = values.take(pc.if_else(sent, places, pa.scalar(None, pa.int64())))
    return taken.combine_chunks() if isinstance(taken, pa.ChunkedArray) else taken


def pieces(table: pa.Table) -> Iterator[pa.Table]:
    """The rows in tables of at most ``CALL_BYTES_MAX`` bytes, as far as whole rows go."""
    if table.nbytes <= CALL_BYTES_MAX or table.num_rows <= 1:
        yield table
        return
    half = table.num_rows // 2
    yield from pieces(table.slice(0, half))
    yield from pieces(table.slice(half))


class CatalogCalls:
    """Calls of several threads that belong together: when one fails, the others are cancelled."""

    def __init__(self, on_error: str):
        self._is_lenient = checked_on_error(on_error) == "null"
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._in_flight: set[AsyncFunctionCallHandle] = set()
        self._running = 0
        self._idle = threading.Condition(self._lock)
        self.failure: BaseException | None = None
        self.rows_failed = 0
        self.first_failed: CatalogCallError | None = None

    def run(self, function: CatalogFunction, columns: list[pa.Array]) -> pa.Array:
        """One result a row. Raises CatalogCallError, and Stopped once another call has failed."""
        with self._lock:
            self._running += 1
        try:
            return self._run(function, columns)
        except BaseException as error:
            self.stop(error)
            raise
        finally:
            with self._lock:
                self._running -= 1
                self._idle.notify_all()

    def stop(self, error: BaseException | None = None) -> None:
        """Cancels what is in flight; the first error is kept."""
        with self._lock:
            if self.failure is None and not self._stop.is_set():
                self.failure = error
            self._stop.set()
            handles = list(self._in_flight)
        for handle in handles:
            with suppress(SluiceError):
                handle.cancel()

    def join(self) -> None:
        """After :meth:`stop`: waits until what was being submitted is cancelled as well, so that nothing stays behind."""
        with self._idle:
            self._idle.wait_for(lambda: self._running == 0, JOIN_S_MAX)

    def _run(self, function: CatalogFunction, columns: list[pa.Array]) -> pa.Array:
        table = function.table(columns)
        absent = function.absent(table)
        if absent is None:
            return self._values(function, table)
        first = absent.index(True).as_py()
        error = function.null_error(table, first, is_numbered=False)
        if not self._is_lenient:
            raise error
        self._count(pc.sum(absent).as_py(), error)
        return _scatter(self._values(function, table.filter(pc.invert(absent))), absent)

    def _values(self, function: CatalogFunction, table: pa.Table) -> pa.Array:
        results = []
        for piece in pieces(table):
            result = self.result(function.remote_function, piece)
            if result.errors:
                row, cause = next(iter(result.errors.items()))
                error = CatalogCallError(function.name, row_values(piece, row), cause)
                if not self._is_lenient:
                    raise error
                self._count(len(result.errors), error)
            results.append(result.values)
        return results[0] if len(results) == 1 else pa.concat_arrays(results)

    def _count(self, rows: int, error: CatalogCallError) -> None:
        with self._lock:
            self.rows_failed += rows
            self.first_failed = self.first_failed or error

    def result(self, function: RemoteFunction, table: pa.Table) -> Result:
        """Values and errors by row of one call. Raises Stopped after :meth:`stop`, which cancels it."""
        answer = self._submitted(function, table)
        if answer.status != 202:
            return decode(answer.data, None)
        handle = AsyncFunctionCallHandle(function._transport, answer.json()["call_id"])
        with self._lock:
            self._in_flight.add(handle)
        try:
            if self._stop.is_set():
                handle.cancel()
                raise Stopped
            return handle.result(stop=self._stop)
        finally:
            with self._lock:
                self._in_flight.discard(handle)

    def _submitted(self, function: RemoteFunction, table: pa.Table) -> Any:
        headers = {"accept": ARROW_STREAM, "prefer": f"wait={FIRST_WAIT_S:g}"}
        for attempt in range(1_000_000):
            if self._stop.is_set():
                raise Stopped
            try:
                return function._post(table, headers, None, FIRST_WAIT_S)
            except ServerError as error:
                if error.code not in PASSING:
                    raise
            self._stop.wait(back_off_s(min(attempt, 7)))
        raise Stopped


def _is_column(value: Any) -> bool:
    if isinstance(value, (pa.Array, pa.ChunkedArray, list, tuple)):
        return True
    if isinstance(value, (str, bytes, bytearray, Mapping, pa.Scalar)):
        return False
    return hasattr(value, "__len__") and getattr(value, "ndim", 1) > 0


def _broadcast(one: Input, value: Any, rows: int) -> pa.Array:
    single = pa.array([value.as_py()], value.type) if isinstance(value, pa.Scalar) else column_of(one.name, [value], one.json)
    return single.take(pa.repeat(pa.scalar(0, pa.int32()), rows))


def _columns(function: CatalogFunction, args: tuple[Any, ...]) -> list[pa.Array]:
    """One Arrow column an input, all of one length; values that are no columns are repeated."""
    pairs = list(zip(function.inputs, args, strict=True))
    columns = {one.name: column_of(one.name, value, one.json) for one, value in pairs if _is_column(value)}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns have different lengths: {', '.join(f'{n} {k}' for n, k in lengths.items())}")
    rows = next(iter(lengths.values()), 1)
    return [columns[one.name] if one.name in columns else _broadcast(one, value, rows) for one, value in pairs]


def catalog_call(
    function: str,
    *args: Any,
    url: str | None = None,
    api_key: str | None = None,
    on_error: str = "raise",
    concurrent_chunks: int = 16,
) -> pa.Array:
    """Calls any deployed function with one column for each of its inputs, in their order, as SQL's ``catalog_call`` does.

    Args:
        function: its name, as ``"model.house-price-sg"``.
        args: columns of one length (pyarrow arrays and chunked arrays, pandas and polars series, NumPy arrays, lists), or
            single values, which are repeated for every row; only single values make one row.
        url: by default $SLUICE_URL, else http://127.0.0.1:7700.
        on_error: ``"raise"``, or ``"null"``: null for the rows that failed, and for those with a null that the function
            does not take.
        concurrent_chunks: calls in flight at most.

    Returns:
        One result a row, in the order of the rows, in the function's output type.

    Raises:
        CatalogCallError: names the row, its arguments and the cause.
        ValueError: the arguments do not fit the inputs.
    """
    checked_on_error(on_error)
    target = CatalogFunction(Remote(url, api_key), function)
    target.check_count(len(args))
    table = target.table(_columns(target, args))
    absent = target.absent(table)
    if absent is not None:
        if on_error == "raise":
            raise target.null_error(table, absent.index(True).as_py(), is_numbered=True)
        return _scatter(_bulk(target, table.filter(pc.invert(absent)), on_error, concurrent_chunks), absent)
    return _bulk(target, table, on_error, concurrent_chunks)


def _bulk(target: CatalogFunction, table: pa.Table, on_error: str, concurrent_chunks: int) -> pa.Array:
    rows = max(1, min(CHUNK_ROWS, table.num_rows * CALL_BYTES_MAX // max(1, table.nbytes)))
    try:
        results = target.remote_function.chunked_call(
            table, chunk_size=rows, concurrent_chunks=concurrent_chunks, on_error=on_error
        )
    except ChunkFailedError as error:
        if not isinstance(error.cause, CallFailedError):
            raise
        row, cause = next(iter(error.cause.errors.items()))
        row += error.from_row
        raise CatalogCallError(target.name, row_values(table, row), cause, row) from None
    return results["result"].combine_chunks()
