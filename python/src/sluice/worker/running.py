"""Runs batches through the body: arguments in, answer frames out, every way to fail told as an error frame."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from sluice.context import CallContext, Context
from sluice.declaration import Function
from sluice.errors import RowError
from sluice.failure import failure_json
from sluice.worker.channel import Channel, FrameError
from sluice.worker.inputs import InputReader
from sluice.worker.outputs import OutputError, OutputWriter, length_error


class EventLoop:
    """One loop for the whole process, made when the first coroutine needs it; hooks and batches share it."""

    def __init__(self) -> None:
        self._loop: Any = None

    def finish(self, value: Any) -> Any:
        """The value itself, or what it comes to when it is awaitable."""
        if not inspect.isawaitable(value):
            return value
        if self._loop is None:
            import asyncio  # 35 ms, of which most functions need nothing

            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        task = self._loop.create_task(_awaited(value))
        try:
            return self._loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt):
            self._end(task)
            raise

    def _end(self, task: Any) -> None:
        """asyncio leaves the loop at once when any task raises one of these two; what is left in it would go on, and
        raise, in the next batch."""
        task.cancel()
        while not task.done():
            with suppress(BaseException):  # other tasks may raise them as well; the first is told
                self._loop.run_until_complete(task)
        if not task.cancelled():
            task.exception()  # asyncio prints one that nobody has asked for


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


async def _all(rows: list[Any]) -> list[Any]:
    """All rows at once; the first exception cancels the others. A RowError is its row's value."""
    import asyncio

    async def settled(row: Any) -> Any:
        try:
            return await row if inspect.isawaitable(row) else row
        except RowError as error:
            return error

    tasks = [asyncio.ensure_future(settled(row)) for row in rows]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


class Runner:
    """One function in one process. ``run`` answers a call frame and never raises but for a host that is gone."""

    def __init__(self, function: Function[..., Any], init: dict[str, Any], channel: Channel, loop: EventLoop):
        spec = init["function"]
        self._body: Callable[..., Any] = function.body
        self._plan = function.plan
        self._positional = function.plan.positional
        self._names = [parameter.name for parameter in function.plan.parameters]
        self._name = function.name
        self._version = str(init.get("version", ""))
        self._inputs = InputReader(function.plan, spec.get("inputs"))
        self._output = OutputWriter(spec["output"])
        self._channel = channel
        self._loop = loop

    def read(self, header: dict[str, Any], body: Any) -> dict[str, Any]:
        """A call frame's arguments; at any time, in one thread at a time."""
        return self._inputs.read(body, header["parts"], header["rows"]) if header["rows"] else {}

    def run(self, header: dict[str, Any], arguments: Callable[[], dict[str, Any]]) -> None:
        try:
            self._answer(header, arguments())
        except EOFError as error:
            if error.__traceback__ is not None and _is_ours(error):
                raise
            self._fail(header["id"], error, "handler_error")
        except (OutputError, FrameError) as error:
            self._fail(header["id"], error, "handler_output_invalid")
        except BaseException as error:  # also SystemExit and KeyboardInterrupt: they are the batch's
            self._fail(header["id"], error, "handler_error")

    def cancelled(self, header: dict[str, Any]) -> None:
        """Answers a batch that is not wanted any more; the host drops the answer."""
        error = {"kind": "Cancelled", "message": "the batch was cancelled before it started", "mro": [], "traceback": ""}
        self._channel.send({"type": "error", "id": header["id"], "error": {**error, "code": "handler_error"}})

    def _fail(self, batch: int, error: BaseException, code: str) -> None:
        told = failure_json(error, code)
        if code == "handler_output_invalid":
            told["traceback"] = ""  # it is raised by us, after the body is done
        self._channel.send({"type": "error", "id": batch, "error": told})

    def _answer(self, header: dict[str, Any], arguments: dict[str, Any]) -> None:
        rows = header["rows"]
        if rows == 0:
            self._send(header["id"], [], 0)
            return
        extra = {} if self._plan.context is None else {self._plan.context: self._context(header)}
        if self._plan.mode == "row":
            self._send(header["id"], self._each_row(arguments, extra), rows)
            return
        returned = self._loop.finish(self._body(**arguments, **extra))
        if hasattr(returned, "__anext__"):
            self._loop.finish(self._stream_async(header["id"], returned, rows))
        elif hasattr(returned, "__next__"):
            self._stream(header["id"], returned, rows)
        else:
            self._send(header["id"], returned, rows)

    def _each_row(self, arguments: dict[str, Any], extra: dict[str, Any]) -> list[Any]:
        body = functools.partial(self._body, **extra) if extra else self._body
        values: list[Any] = []
        for row in zip(*arguments.values(), strict=True):
            try:
                values.append(body(*row) if self._positional else body(**dict(zip(self._names, row, strict=True))))
            except RowError as error:
                values.append(error)
        pending = any(hasattr(kind, "__await__") for kind in set(map(type, values)))
        return self._loop.finish(_all(values)) if pending else values

    def _send(self, batch: int, values: Any, rows: int) -> None:
        count, errors, parts = self._output.encode(values, rows)
        self._channel.send({"type": "result", "id": batch, "rows": count, "errors": errors}, parts)

    def _part(self, batch: int, values: Any, start: int, rows: int) -> int:
        """Sends a consecutive sub-batch; answers the row that is next."""
        count, errors, parts = self._output.encode(values, None, start)
        if start + count > rows:
            raise length_error(rows, start + count)
        if count:
            head = {"type": "partial", "id": batch, "from": start, "rows": count, "errors": errors}
            self._channel.send(head, parts)
        return start + count

    def _stream(self, batch: int, generator: Any, rows: int) -> None:
        at = 0
        try:
            for values in generator:
                at = self._part(batch, values, at, rows)
        finally:
            if hasattr(generator, "close"):
                generator.close()
        self._end_stream(batch, at, rows)

    async def _stream_async(self, batch: int, generator: Any, rows: int) -> None:
        at = 0
        try:
            async for values in generator:
                at = self._part(batch, values, at, rows)
        finally:
            if hasattr(generator, "aclose"):
                await generator.aclose()
        self._end_stream(batch, at, rows)

    def _end_stream(self, batch: int, at: int, rows: int) -> None:
        if at != rows:
            raise length_error(rows, at)
        self._channel.send({"type": "result", "id": batch, "rows": 0, "errors": []})

    def _context(self, header: dict[str, Any]) -> Context:
        deadline = header.get("deadline_ms")
        calls = (CallContext(one["call_id"], one["rows"], one.get("metadata") or {}) for one in header.get("calls") or ())
        return Context(
            function=self._name,
            version=self._version,
            batch_id=header.get("batch", 0),
            attempt=header.get("attempt", 1),
            calls=tuple(calls),
            deadline=None if deadline is None else datetime.fromtimestamp(deadline / 1000, timezone.utc),
            traceparent=header.get("traceparent"),
        )


def _is_ours(error: BaseException) -> bool:
    """An EOFError of the host's socket, not one that the body has raised (as ``input()`` does)."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__") == "sluice.worker.channel"
