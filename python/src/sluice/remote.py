"""The client: functions on a server, called with tables."""

from __future__ import annotations

import functools
import json
import math
import threading
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from sluice.chunks import ChunkedCall, ChunkOptions, ranges
from sluice.errors import CallFailedError, ServerError, TimeoutError
from sluice.handle import AsyncFunctionCallHandle, checked_timeout
from sluice.results import decode
from sluice.rows import refitted, stream_of, table_of
from sluice.transport import ARROW_STREAM, RETRIES, Late, Transport, ending, exchange_end, left_s

PREFER_LONGEST_S = 50.0
"""``Prefer: wait`` at most; longer waits go on as long polls."""


class Remote:
    """One Sluice server.

    Args:
        url: by default $SLUICE_URL, else http://127.0.0.1:7700.
        api_key: by default $SLUICE_API_KEY; without either none is sent.
        retries: how often a request that is safe to send again is sent again.
    """

    def __init__(self, url: str | None = None, api_key: str | None = None, *, retries: int = RETRIES):
        self._transport = Transport(url, api_key, retries)
        self.url = self._transport.url

    def __repr__(self) -> str:
        return f"<sluice.Remote {self.url}>"

    def function(self, name: str, output_type: Any = None, is_async: bool = False) -> RemoteFunction:
        """A function by its name; nothing is asked of the server yet.

        Args:
            output_type: the pyarrow type that results are cast to; by default the type that the function declares.
            is_async: calls are deferred only (``defer_batch``, ``chunked_call``); calling it directly is an error then.
        """
        return RemoteFunction(self._transport, name, output_type, is_async)

    def call(self, call_id: str, output_type: Any = None) -> AsyncFunctionCallHandle:
        """A handle on a call that was submitted before, here or elsewhere."""
        if not isinstance(call_id, str) or not call_id:
            raise ValueError(f"call_id is {call_id!r}; it takes the text of handle.call_id")
        return AsyncFunctionCallHandle(self._transport, call_id, _checked_type(output_type))

    def functions(self) -> list[dict[str, Any]]:
        """Every function as docs/API.md shows it."""
        return list(self._transport.request("GET", "/v1/functions").json()["functions"])

    def deploy(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Registers a SPEC of docs/API.md; the same again changes nothing. Files: :func:`sluice.deploy`."""
        body = json.dumps({"function": spec}).encode()
        headers = {"content-type": "application/json"}
        return dict(self._transport.request("POST", "/v1/functions", headers=headers, body=body).json())


def _checked_type(output_type: Any) -> pa.DataType | None:
    if output_type is not None and not isinstance(output_type, pa.DataType):
        raise ValueError(f"output_type is {output_type!r}; it takes a pyarrow type as pa.large_list(pa.float32())")
    return output_type


def _byte_text(name: str, text: str) -> str:
    """A header's value is bytes, which the server reads as UTF-8; http.client writes a text as Latin-1."""
    if not isinstance(text, str) or not text.isprintable():
        raise ValueError(f"{name} is {text!r}; it takes a text without control characters")
    return text.encode().decode("latin-1")


def _option_headers(
    priority: int | None,
    lane: str | None,
    deadline: float | None,
    metadata: Mapping[str, str] | None,
    traceparent: str | None,
) -> dict[str, str]:
    headers: dict[str, str] = {}
    if priority is not None:
        headers["sluice-priority"] = str(priority)
    if lane is not None:
        headers["sluice-lane"] = _byte_text("lane", lane)
    if deadline is not None:
        if isinstance(deadline, bool) or not isinstance(deadline, (int, float)) or not 0 < deadline < math.inf:
            raise ValueError(f"deadline is {deadline!r}; it takes seconds from now, above 0")
        headers["sluice-deadline-ms"] = str(math.ceil(deadline * 1000))
    if metadata is not None:
        if not isinstance(metadata, Mapping):
            raise ValueError(f"metadata is {metadata!r}; it takes a dict of strings")
        headers["sluice-metadata"] = json.dumps(dict(metadata))
    if traceparent is not None:
        headers["traceparent"] = traceparent
    return headers


class RemoteFunction:
    """A function on the server. Rows are a pyarrow Table or RecordBatch, a pandas or polars DataFrame, a dict of columns,
    a list of dicts, or one list for each input."""

    def __init__(self, transport: Transport, name: str, output_type: Any = None, is_async: bool = False):
        if not isinstance(name, str) or not name:
            raise ValueError(f"name is {name!r}; it takes the name of a deployed function")
        self.name = name
        self.output_type = _checked_type(output_type)
        self.is_async = is_async
        self._transport = transport
        self._inputs: list[dict[str, Any]] | None = None
        self._is_shown = False

    def __repr__(self) -> str:
        return f"<sluice.RemoteFunction {self.name} at {self._transport.url}>"

    def __reduce__(self) -> Any:
        return type(self), (self._transport, self.name, self.output_type, self.is_async)

    def show(self) -> dict[str, Any]:
        """The function as docs/API.md shows it."""
        return self._shown(None)

    def _shown(self, deadline: float | None) -> dict[str, Any]:
        return dict(self._transport.request("GET", self._path(), deadline=deadline).json())

    def __call__(self, *args: Any, **columns: Any) -> pa.Array:
        """Sends the rows, waits, and answers one result a row: ``embed(["a", "b"])``, ``embed(table)``, ``embed(text=[…])``.

        Raises CallFailedError when rows are not ok.
        """
        if self.is_async:
            raise TypeError(
                f"{self.name} was made with is_async=True; use {self.name}.defer_batch(rows) or "
                f"{self.name}.chunked_call(rows, chunk_size=…), or leave is_async out to wait for results"
            )
        return self._wait(args, columns, None, {})

    def call(
        self,
        *args: Any,
        timeout: float | None = None,
        priority: int | None = None,
        lane: str | None = None,
        deadline: float | None = None,
        metadata: Mapping[str, str] | None = None,
        traceparent: str | None = None,
    ) -> pa.Array:
        """As calling it, with options. Raises TimeoutError after ``timeout`` seconds; the call goes on then."""
        headers = _option_headers(priority, lane, deadline, metadata, traceparent)
        return self._wait(args, {}, checked_timeout(timeout), headers)

    def defer_batch(
        self,
        *args: Any,
        priority: int | None = None,
        lane: str | None = None,
        deadline: float | None = None,
        metadata: Mapping[str, str] | None = None,
        traceparent: str | None = None,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        **columns: Any,
    ) -> AsyncFunctionCallHandle:
        """Sends the rows and answers a handle once the server has accepted them.

        Raises TimeoutError, which carries the idempotency key, where that takes more than ``timeout`` seconds.

        Args:
            priority: −100 to 100; higher goes first.
            lane: the fairness key; by default the API key.
            deadline: seconds from now; rows that have not started by then expire.
            metadata: texts that the handler sees in its context, 4 KiB in all.
            traceparent: W3C trace context of the caller.
            idempotency_key: the same key and rows again attach to the same call; by default a random one.
            timeout: seconds to wait at most until the server has accepted the rows; None: as long as the retries last.
        """
        headers = _option_headers(priority, lane, deadline, metadata, traceparent)
        end = ending(checked_timeout(timeout))
        key = idempotency_key if idempotency_key is not None else uuid.uuid4().hex
        try:
            return self._submit(table_of(args, columns, lambda: self._fields(exchange_end(end))), headers, key, end)
        except Late as late:
            raise TimeoutError(None, timeout or 0.0, key) from late.__cause__

    def chunked_call(
        self,
        args: Any,
        *,
        chunk_size: int | None = None,
        num_chunks: int | None = None,
        concurrent_chunks: int = 4,
        timeout: float | None = None,
        on_error: str = "raise",
        progress: bool = False,
        priority: int | None = None,
        lane: str | None = None,
        deadline: float | None = None,
        metadata: Mapping[str, str] | None = None,
        traceparent: str | None = None,
    ) -> pa.Table:
        """Cuts the rows into chunks, keeps some of them in flight, and joins the results in row order.

        Args:
            args: a table whose columns are the function's inputs.
            chunk_size: rows of a chunk; the last may have fewer. Give this or ``num_chunks``.
            num_chunks: exactly this many chunks (never more than rows), sizes differing by at most one.
            concurrent_chunks: chunks in flight at most.
            timeout: seconds for each chunk, from its submission to its result, also where the server is silent or away. A chunk
                that is too late is cancelled. None waits for ever.
            on_error: ``"raise"``: the first failure cancels what is in flight. ``"null"``: goes on; null for the rows that
                failed or that the server refused, as a null in a column that takes none or a row that is too large, and only
                for them, and a column ``error`` with a JSON text (code, message, kind, traceback) for them.
            progress: shows a bar.

        Returns:
            A table with the column ``result``, row i for row i.

        Raises:
            ChunkFailedError: names the chunk, its rows and the cause.
            TimeoutError: the server has not even said what the function's inputs are.
            ValueError: both or none of chunk_size and num_chunks are given, or an option is out of range.
        """
        options = ChunkOptions(concurrent_chunks, timeout, on_error, progress)
        ranges(0, chunk_size, num_chunks)  # options are refused before the rows are looked at
        headers = _option_headers(priority, lane, deadline, metadata, traceparent)
        inputs_end = exchange_end(ending(options.timeout))
        try:
            table = table_of((args,), {}, lambda: self._fields(inputs_end))
        except Late as late:
            raise TimeoutError(None, options.timeout or 0.0) from late.__cause__
        cuts = ranges(table.num_rows, chunk_size, num_chunks)
        submit = functools.partial(self._submit, headers=headers)
        return ChunkedCall(submit, table, cuts, options, self.output_type).run()

    def _submit(
        self,
        table: pa.Table,
        headers: Mapping[str, str],
        key: str,
        end: float | None,
        stop: threading.Event | None = None,
    ) -> AsyncFunctionCallHandle:
        """Raises Late and Stopped; the server may have taken the rows then, and the key finds their call."""
        answer = self._post(table, {**headers, "accept": "application/json"}, key, 0.0, exchange_end(end), stop)
        return AsyncFunctionCallHandle(self._transport, answer.json()["call_id"], self.output_type)

    def _wait(
        self, args: tuple[Any, ...], columns: Mapping[str, Any], timeout: float | None, headers: Mapping[str, str]
    ) -> pa.Array:
        end = ending(timeout)
        key = uuid.uuid4().hex
        # Half of the time is asked for, so that the answer that names an unfinished call arrives; its handle waits for the rest.
        seconds = PREFER_LONGEST_S if timeout is None else min(PREFER_LONGEST_S, timeout / 2)
        sent = {**headers, "accept": ARROW_STREAM, "prefer": f"wait={seconds:.3f}"}
        try:
            table = table_of(args, columns, lambda: self._fields(exchange_end(end)))
            answer = self._post(table, sent, key, seconds, exchange_end(end))
        except Late as late:
            raise TimeoutError(None, timeout or 0.0, key) from late.__cause__
        if answer.status == 202:
            handle = AsyncFunctionCallHandle(self._transport, answer.json()["call_id"], self.output_type)
            try:
                return handle.get(left_s(end))
            except TimeoutError:
                raise TimeoutError(handle.call_id, timeout or 0.0) from None
        result = decode(answer.data, self.output_type)
        if result.errors:
            raise CallFailedError(answer.headers.get("x-call-id", ""), result.errors, result.values)
        return result.values

    def _post(
        self,
        table: pa.Table,
        headers: Mapping[str, str],
        key: str | None,
        wait_s: float,
        deadline: float | None = None,
        stop: threading.Event | None = None,
    ) -> Any:
        sent = {
            **headers,
            "content-type": ARROW_STREAM,
            "idempotency-key": key if key is not None else uuid.uuid4().hex,
        }
        if self._is_shown:
            table = refitted(table, self._inputs) or table
        try:
            return self._send(table, sent, wait_s, deadline, stop)
        except ServerError as error:
            if error.code != "schema_mismatch":
                raise
            self._is_shown = False  # a deploy may have changed what was asked for earlier
            fitting = refitted(table, self._fields(deadline))
            if fitting is None:
                raise
        # What was refused is nothing on the server, and its key is free.
        return self._send(fitting, sent, wait_s, deadline, stop)

    def _send(
        self,
        table: pa.Table,
        headers: Mapping[str, str],
        wait_s: float,
        deadline: float | None,
        stop: threading.Event | None,
    ) -> Any:
        path, body = f"{self._path()}/calls", stream_of(table)
        return self._transport.request("POST", path, headers=headers, body=body, wait_s=wait_s, deadline=deadline, stop=stop)

    def _fields(self, deadline: float | None = None) -> list[dict[str, Any]] | None:
        """The declared inputs; asked for once, or by several threads at once."""
        if self._is_shown:
            return self._inputs
        self._inputs = inputs = self._shown(deadline)["spec"]["inputs"]
        self._is_shown = True
        return inputs

    def _path(self) -> str:
        return f"/v1/functions/{quote(self.name, safe='')}"
