"""What this package raises. Server errors carry the catalogue's code (docs/ERRORS.md)."""

from __future__ import annotations

import builtins
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


_NAMED_ROW = re.compile(r'\A((?:column ".*?"(?:,| is not nullable, but) )?row )\d+\b', re.DOTALL)
"""Where the words of a refusal name its row."""


_WAYS_ON = {
    "schema_mismatch": None,
    "idempotency_mismatch": None,
    "unauthorized": "Give api_key= or set SLUICE_API_KEY; `sluice keys create NAME` makes a key.",
    "not_found": "Check the name, and the server that url= or SLUICE_URL names.",
}
"""In place of the server's, which are for whoever speaks HTTP; None where the detail has the way on."""


class SluiceError(Exception):
    """The base of all errors of this package. ``code`` is one of the catalogue where the server said so."""

    code: str = "invalid_request"


class DeclarationError(SluiceError, ValueError):
    """A function, an option or an annotation that cannot be used; the message names it, its value and what is allowed."""

    code = "invalid_function"


class RowError(Exception):
    """Refuses one row: put it in the returned list in place of a value, or raise it where the body takes one row.

    The row is failed with this message and never runs again; its neighbours in the batch are not touched.
    """

    def __init__(self, message: object = ""):
        super().__init__(message)
        self.message = str(message)


class ServerError(SluiceError):
    """The server refused or failed. ``code``, ``status``, ``retryable`` and ``problem`` are those of its answer."""

    def __init__(self, code: str, status: int, detail: str, problem: Mapping[str, Any] | None = None):
        self.problem: dict[str, Any] = dict(problem or {})
        self.code = code
        self.status = status
        self.detail = detail
        self.retryable = bool(self.problem.get("retryable", False))
        fix = _WAYS_ON.get(code, self.problem.get("fix"))
        super().__init__(f"{detail} ({code}){f' {fix}' if fix else ''}")

    def __reduce__(self) -> Any:
        return type(self), (self.code, self.status, self.detail, self.problem)

    @property
    def refused_row(self) -> int | None:
        """The row that cannot be taken, counted from 0 within what was sent; None where it is no one row's fault."""
        row = self.problem.get("row") if self.code in ("invalid_request", "schema_mismatch") else None
        return row if isinstance(row, int) else None

    @property
    def is_too_large(self) -> bool:
        """Fewer rows may do."""
        return self.code == "payload_too_large"

    def at_row(self, row: int) -> str:
        """The detail, with another number for the row that it names."""
        return _NAMED_ROW.sub(lambda found: f"{found[1]}{row}", self.detail, count=1)


class ConnectionError(SluiceError, builtins.ConnectionError):
    """Nothing answers at the server's address."""

    code = "unreachable"

    def __init__(self, url: str, cause: object):
        self.url = url
        self.cause = str(cause)
        super().__init__(
            f"No Sluice server answers at {url} ({cause}). Start one with `sluice dev`, or name another with url= or SLUICE_URL."
        )

    def __reduce__(self) -> Any:
        return type(self), (self.url, self.cause)


class TimeoutError(SluiceError, builtins.TimeoutError):
    """The wait is over and the call is not: it goes on, and ``Remote().call(call_id).get()`` waits again.

    ``call_id`` is None where the server has not even said that it took the call: ``idempotency_key`` finds it then. Without
    either nothing was sent.
    """

    code = "result_not_ready"

    def __init__(self, call_id: str | None, seconds: float, idempotency_key: str | None = None):
        self.call_id = call_id
        self.seconds = seconds
        self.idempotency_key = idempotency_key
        super().__init__(self._text())

    def _text(self) -> str:
        if self.call_id is not None:
            again = f'Remote().call("{self.call_id}").get()'
            return f"Call {self.call_id} is not finished after {self.seconds:g} s; it goes on, wait again with {again}."
        silence = f"The server has not answered after {self.seconds:g} s"
        if self.idempotency_key is None:
            return f"{silence}; nothing was sent."
        way_on = f'defer_batch(rows, idempotency_key="{self.idempotency_key}")'
        return f"{silence} and may have taken the call; {way_on} attaches to it, or sends it where it has not."

    def __reduce__(self) -> Any:
        return type(self), (self.call_id, self.seconds, self.idempotency_key)


class DeploymentError(SluiceError):
    """A scaling group did not become ready. ``group``: its name; ``reason``: what the server says of it, the end of a traceback
    among it; ``state``: failed, starting, or ``rolled_back`` where the version before goes on serving."""

    code = "not_ready"

    def __init__(self, group: str, state: str, reason: str):
        self.group = group
        self.state = state
        self.reason = reason
        super().__init__(f"scaling group {group} is {state.replace('_', ' ')}: {reason}")

    def __reduce__(self) -> Any:
        return type(self), (self.group, self.state, self.reason)


class CallFailedError(SluiceError):
    """A call with rows that are not ok.

    ``errors``: row number → ``{"code", "message", "kind"?, "traceback"?}``. ``partial``: the results as a pyarrow Array,
    one entry a row, null where the row is in ``errors``.
    """

    def __init__(self, call_id: str, errors: Mapping[int, Mapping[str, Any]], partial: pa.Array):
        self.call_id = call_id
        self.errors = dict(errors)
        self.partial = partial
        _, first = next(iter(self.errors.items()), (None, {}))
        self.code = str(first.get("code", "handler_error"))
        super().__init__(self.text(0))

    def text(self, from_row: int) -> str:
        """What failed, where the call's first row is ``from_row`` to the reader."""
        row, first = next(iter(self.errors.items()), (None, {}))
        kind = f"{first['kind']}: " if first.get("kind") else ""
        cause = "no row says why" if row is None else f"row {from_row + row}: {kind}{first.get('message', '')} ({self.code})"
        return f"{len(self.errors)} of {len(self.partial)} rows of call {self.call_id} failed; {cause}"

    def __reduce__(self) -> Any:
        return type(self), (self.call_id, self.errors, self.partial)


class ChunkFailedError(SluiceError):
    """One chunk of a chunked call failed; what was in flight was cancelled.

    ``chunk``: its number from 0; ``from_row`` (inclusive) and ``to_row`` (exclusive): its rows; ``cause``: the error. The message
    names rows of the whole table, the cause those of the chunk, both counted from 0.
    """

    def __init__(self, chunk: int, from_row: int, to_row: int, cause: BaseException):
        self.chunk = chunk
        self.from_row = from_row
        self.to_row = to_row
        self.cause = cause
        self.code = getattr(cause, "code", "handler_error")
        super().__init__(
            f"Chunk {chunk} (rows {from_row} to {to_row - 1}) failed: {_chunk_cause(cause, from_row, to_row - from_row)}"
        )

    def __reduce__(self) -> Any:
        return type(self), (self.chunk, self.from_row, self.to_row, self.cause)


def _chunk_cause(cause: BaseException, from_row: int, rows: int) -> str:
    if isinstance(cause, CallFailedError):
        return cause.text(from_row)
    if isinstance(cause, TimeoutError) and cause.call_id is None:
        return f"the server had not answered after {cause.seconds:g} s; where it took the call, that is cancelled"
    if isinstance(cause, TimeoutError):
        return f"its call {cause.call_id} was not finished after {cause.seconds:g} s and was cancelled"
    if isinstance(cause, ServerError) and cause.is_too_large:
        lower = "lower chunk_size or raise num_chunks, or " if rows > 1 else ""
        instead = 'give on_error="null" to go on without a row that is too large'
        return f"{cause.detail.rstrip('.')} ({cause.code}); {lower}{instead}"
    row = cause.refused_row if isinstance(cause, ServerError) else None
    if isinstance(cause, ServerError) and row is not None:
        return f"{cause.at_row(from_row + row)} ({cause.code})"
    return str(cause)
