"""A handle on one call: its status, its results, its end. It can be made again from the call id in another process."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from sluice.errors import CallFailedError, ServerError, TimeoutError
from sluice.per_process import PerProcess
from sluice.results import Result, decode
from sluice.transport import ANSWER_S, ARROW_STREAM, Late, Response, Stopped, Transport, ending, exchange_end

POLL_LONGEST_S = 50.0
"""One long poll; proxies cut idle connections after a minute or more."""
POLL_EARLY_S = 0.05
"""How long before the end of a timeout the server's answer is asked for."""
AWAIT_POLL_S = 5.0
"""A long poll of an awaited handle: how long a thread outlives a task that was cancelled."""
AWAIT_THREADS = 64
_threads = PerProcess(lambda: ThreadPoolExecutor(AWAIT_THREADS, thread_name_prefix="sluice-await"))


def checked_timeout(timeout: Any) -> float | None:
    """Seconds, or None for ever. Raises ValueError."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
        raise ValueError(f"timeout is {timeout!r}; it takes seconds of at least 0, or None to wait for ever")
    return float(timeout)


def _raise_if(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise Stopped


class AsyncFunctionCallHandle:
    """One accepted call. Await it, or :meth:`get` its results. ``call_id`` makes it again: ``Remote().call(call_id)``."""

    def __init__(self, transport: Transport, call_id: str, output_type: pa.DataType | None = None):
        self.call_id = call_id
        self._transport = transport
        self._output_type = output_type
        self._result: Result | None = None

    def __repr__(self) -> str:
        return f"<sluice.AsyncFunctionCallHandle {self.call_id}>"

    def status(self) -> str:
        """``pending``, ``running``, ``completed``, ``failed``, ``cancelled`` or ``expired``.

        Raises ServerError with code ``call_gone`` past the call's retention, and ``call_not_found`` later.
        """
        return str(self.show()["status"])

    def show(self) -> dict[str, Any]:
        """The whole call as docs/API.md shows it: counts of rows by outcome, times, metadata."""
        return self._transport.request("GET", self._path()).json()

    def done(self) -> bool:
        """True when every row has an outcome."""
        return self.status() not in ("pending", "running")

    def get(self, timeout: float | None = None) -> pa.Array:
        """The results, one entry a row, in the order of the rows.

        Args:
            timeout: seconds to wait at most, whether the server is busy, silent or away; None waits for ever.

        Raises:
            CallFailedError: rows are not ok; it carries the errors by row and the partial results.
            TimeoutError: the time is over; the call goes on.
        """
        return self._checked(self.result(timeout))

    def result(self, timeout: float | None = None, *, stop: threading.Event | None = None) -> Result:
        """Values and errors by row, without raising for rows that failed."""
        seconds = checked_timeout(timeout)
        if seconds is None:
            while (result := self._poll(POLL_LONGEST_S, None, stop)) is None:
                _raise_if(stop)
            return result
        begun = time.monotonic()
        # The server is asked for a little less, so that its "not yet" arrives: where it is cut off, its connection is lost.
        until = begun + seconds - min(POLL_EARLY_S, seconds / 20)
        while True:
            wait_s = min(POLL_LONGEST_S, max(0.0, until - time.monotonic()))
            try:
                result = self._poll(wait_s, begun + max(seconds, ANSWER_S), stop)
            except Late as late:
                raise TimeoutError(self.call_id, seconds) from late.__cause__
            if result is not None:
                return result
            _raise_if(stop)
            if time.monotonic() >= until:
                raise TimeoutError(self.call_id, seconds)

    def partial(self) -> Result:
        """What is finished so far; rows that are not are in ``errors`` with the code ``row_unfinished``."""
        headers = {"accept": ARROW_STREAM}
        answer = self._transport.request("GET", f"{self._path()}/result?partial=true", headers=headers)
        return decode(answer.data, self._output_type)

    def cancel(self, timeout: float | None = None) -> str:
        """Cancels what is not finished and answers the status. What is finished stays readable. Twice does no harm.

        Raises TimeoutError where the server has not answered in so many seconds; None: as long as the retries last.
        """
        return str(self._asked("DELETE", self._path(), timeout).json()["status"])

    def acknowledge(self, timeout: float | None = None) -> None:
        """The result has been read: the server keeps it for minutes only, not for its full retention.

        Raises TimeoutError as :meth:`cancel` does.
        """
        self._asked("POST", f"{self._path()}/acknowledge", timeout)

    def _asked(self, method: str, path: str, timeout: float | None) -> Response:
        end = ending(checked_timeout(timeout))
        try:
            return self._transport.request(method, path, deadline=exchange_end(end))
        except Late as late:
            raise TimeoutError(self.call_id, timeout or 0.0) from late.__cause__

    def __await__(self) -> Generator[Any, None, pa.Array]:
        return self._wait().__await__()

    async def _wait(self) -> pa.Array:
        loop = asyncio.get_running_loop()
        while True:
            result = await loop.run_in_executor(_threads.get(), self._poll, AWAIT_POLL_S, None, None)
            if result is not None:
                return self._checked(result)

    def _poll(self, wait_s: float, deadline: float | None, stop: threading.Event | None) -> Result | None:
        """None: not finished yet."""
        if self._result is not None:
            return self._result
        path = f"{self._path()}/result?wait={wait_s:.3f}"
        headers = {"accept": ARROW_STREAM}
        try:
            answer = self._transport.request("GET", path, headers=headers, wait_s=wait_s, deadline=deadline, stop=stop)
        except ServerError as error:
            if error.code != "result_not_ready":
                raise
            return None
        self._result = decode(answer.data, self._output_type)
        return self._result

    def _checked(self, result: Result) -> pa.Array:
        if result.errors:
            raise CallFailedError(self.call_id, result.errors, result.values)
        return result.values

    def _path(self) -> str:
        return f"/v1/calls/{quote(self.call_id, safe='')}"
