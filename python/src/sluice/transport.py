"""HTTP requests to one server, with what is safe to send again sent again: back-off with jitter, Retry-After, limits.

urllib3 reads bulk bodies twice as fast as httpx2 (measured on loopback: 0.9 and 0.45 GiB/s) and sends them as fast.
"""

from __future__ import annotations

import json
import math
import os
import random
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import urllib3

from sluice.errors import ConnectionError, ServerError
from sluice.per_process import PerProcess

DEFAULT_URL = "http://127.0.0.1:7700"
ARROW_STREAM = "application/vnd.apache.arrow.stream"
RETRIES = 10
"""Bridges half a minute with the waits below: a restart of the server."""
FIRST_CONTACT_RETRIES = 2
"""An address that has never answered this client is more likely wrong than restarting."""
WAIT_FIRST_S = 0.1
WAIT_LONGEST_S = 10.0
RETRY_AFTER_LONGEST_S = 60.0
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 120.0
"""Beyond the wait that a request asks for: longer than the largest body takes to be stored."""
PIECE_BYTES = 2**18
"""A body goes in pieces of this many bytes, each of which may take as long as a connect: urllib3 has one limit for both."""
ANSWER_S = 1.0
"""What one exchange may take where a caller waits for less: a timeout of 0 still asks once."""
CONNECTIONS_MAX = 64
_CODES = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    413: "payload_too_large",
    429: "queue_full",
    503: "shutting_down",
}

Headers = Mapping[str, str]


class Stopped(Exception):
    """The caller does not want the answer any more; the cause is the last failure, from the wait after which it is raised."""


class Late(Exception):
    """The deadline came and no answer; the cause is the last failure."""


class Response:
    """A 2xx answer, read to its end."""

    def __init__(self, status: int, headers: Headers, data: bytes):
        self.status = status
        self.headers = headers
        self.data = data

    def json(self) -> Any:
        return json.loads(self.data)


def back_off_s(attempt: int) -> float:
    """Doubled each time; a half is random so that callers do not march in step."""
    return min(WAIT_LONGEST_S, WAIT_FIRST_S * 2**attempt) * (0.5 + random.random() / 2)


def ending(timeout: float | None) -> float | None:
    """When seconds from now are over, of ``time.monotonic``; None: never."""
    return None if timeout is None else time.monotonic() + timeout


def left_s(end: float | None) -> float | None:
    """Seconds until then, 0 where that is over; None: for ever."""
    return None if end is None else max(0.0, end - time.monotonic())


def exchange_end(end: float | None) -> float | None:
    """Until when an answer is waited for: what has come late in the timeout, or in a short one, has its time all the same."""
    return None if end is None else max(end, time.monotonic() + ANSWER_S)


def server_url(given: str | None) -> str:
    """``given``, else $SLUICE_URL, else http://127.0.0.1:7700. Raises ValueError when it is none."""
    url = given if given is not None else os.environ.get("SLUICE_URL") or DEFAULT_URL
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url is {url!r}; it takes an address as {DEFAULT_URL}")
    return url.rstrip("/")


class Transport:
    """One server and one key. Threads may share it, and processes that fork."""

    def __init__(self, url: str | None, api_key: str | None, retries: int = RETRIES):
        self.url = server_url(url)
        self._key = api_key if api_key is not None else os.environ.get("SLUICE_API_KEY") or None
        self._retries = retries
        self._reached = False
        self._pool = PerProcess(lambda: urllib3.PoolManager(maxsize=CONNECTIONS_MAX, retries=False, headers=None))

    def __reduce__(self) -> Any:
        return type(self), (self.url, self._key, self._retries)

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: Headers | None = None,
        body: Any = None,
        wait_s: float = 0.0,
        is_safe: bool = True,
        deadline: float | None = None,
        stop: threading.Event | None = None,
    ) -> Response:
        """The 2xx answer.

        ``is_safe``: the request may be sent again, since it is a read or its idempotency key makes it one. ``wait_s``: how
        long the server was asked to wait. ``deadline``: of ``time.monotonic``, past which nothing is sent and no answer begins
        to be waited for. ``stop``: ends the waits between tries.

        Raises ServerError for every other answer, ConnectionError when there is none, Late when there is none by the deadline,
        Stopped.
        """
        sent = {**(headers or {}), **({"authorization": f"Bearer {self._key}"} if self._key else {})}
        attempt = 0
        while True:
            answer = self._once(method, path, sent, body, wait_s, deadline)
            if isinstance(answer, Response):
                return answer
            pause_s = self._pause_s(answer, attempt, is_safe)
            left_s = math.inf if deadline is None else deadline - time.monotonic()
            if isinstance(answer, ConnectionError):
                if left_s <= 0 or (pause_s is not None and left_s < WAIT_FIRST_S):
                    raise Late from answer
                # Half of what is left at most, so that a server that comes back is still asked in time.
                pause_s = None if pause_s is None else min(pause_s, left_s / 2)
            if pause_s is None or pause_s > left_s:
                raise answer
            if stop is not None and stop.wait(pause_s):
                raise Stopped from answer
            if stop is None:
                time.sleep(pause_s)
            attempt += 1

    def _once(
        self, method: str, path: str, headers: Headers, body: Any, wait_s: float, deadline: float | None
    ) -> Response | ServerError | ConnectionError:
        total_s = None if deadline is None else max(0.001, deadline - time.monotonic())
        length, pieces = _in_pieces(body)
        timeout = urllib3.Timeout(total=total_s, connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S + wait_s)
        try:
            got = self._pool.get().request(
                method, self.url + path, headers={**headers, **length}, body=pieces, timeout=timeout, redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            return ConnectionError(self.url, _reason(error))
        self._reached = True
        if 200 <= got.status < 300:
            return Response(got.status, got.headers, got.data)
        return _server_error(got.status, got.headers, got.data)

    def _pause_s(self, error: ServerError | ConnectionError, attempt: int, is_safe: bool) -> float | None:
        """How long to wait before the next try; None: there is none."""
        if attempt >= self._retries:
            return None
        if isinstance(error, ConnectionError):
            is_hopeless = not self._reached and attempt >= FIRST_CONTACT_RETRIES
            return back_off_s(attempt) if is_safe and not is_hopeless else None
        # A refusal at the door did nothing, so that any request may be sent again.
        is_refusal = error.status in (429, 503)
        is_transient = error.status in (502, 504) or (error.status >= 500 and error.retryable)
        if not is_refusal and not (is_safe and is_transient):
            return None
        return max(back_off_s(attempt), error.problem.get("retry_after_s", 0.0))


def _in_pieces(body: Any) -> tuple[Headers, Any]:
    """Bytes with their length; what comes in pieces of its own goes as it is."""
    try:
        whole = memoryview(body).cast("B")
    except TypeError:
        return {}, body
    pieces = (whole[at : at + PIECE_BYTES] for at in range(0, len(whole), PIECE_BYTES))
    return {"content-length": str(len(whole))}, pieces


def _server_error(status: int, headers: Headers, data: bytes) -> ServerError:
    problem: dict[str, Any] = {}
    try:
        parsed = json.loads(data)
        problem = parsed if isinstance(parsed, dict) else {}
    except ValueError:
        pass  # a proxy's own page
    code = problem.get("code") or _CODES.get(status, "internal" if status >= 500 else "invalid_request")
    text = data[:300].decode("utf-8", "replace").strip()
    error = ServerError(str(code), status, str(problem.get("detail") or text or f"The server answered {status}."), problem)
    error.problem["retry_after_s"] = _retry_after_s(headers.get("retry-after"))
    return error


def _retry_after_s(text: str | None) -> float:
    try:
        return min(RETRY_AFTER_LONGEST_S, max(0.0, float(text or 0)))
    except ValueError:
        return 0.0


def _reason(error: BaseException) -> str:
    """The innermost cause in a few words: "Connection refused"."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        reason = getattr(inner, "reason", None)
        inner = inner.__cause__ or inner.__context__ or (reason if isinstance(reason, BaseException) else None)
    return str(error).rpartition(": ")[2] or type(error).__name__
