"""Exceptions as gRPC statuses: the contract's JSON as the status message, class names as a trailer."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import grpc

from sluice.failure import failure_json
from sluice.remote_call.values import AnswerError, InputError
from sluice.worker.outputs import OutputError

STATUS_BYTES_MAX = 6000
"""A status message travels percent-encoded in a header; readers take 8 KiB of headers."""


def _told(exception: dict[str, str]) -> str:
    return json.dumps({"chalk_remote_error": 1, "exception": exception}, ensure_ascii=True, separators=(",", ":"))


def _bytes(text: str) -> int:
    return len(quote(text, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"))


def remote_error(told: dict[str, Any]) -> str:
    """The contract's JSON; the traceback's beginning goes first, then the message's end, until it fits."""
    exception = {"kind": told["kind"][:200], "message": told["message"], "stacktrace": told["traceback"]}
    exception["internal_stacktrace"] = ""
    while _bytes(text := _told(exception)) > STATUS_BYTES_MAX:
        trace, message = exception["stacktrace"], exception["message"]
        if trace:
            exception["stacktrace"] = "" if len(trace) < 200 else "[…]\n" + trace[len(trace) // 4 + 4 :]
        else:
            exception["message"] = message[: len(message) * 3 // 4]
    return text


def status_of(error: BaseException) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]:
    """Code, message and trailers of what a call ended with."""
    if isinstance(error, InputError):
        return grpc.StatusCode.INTERNAL, str(error), ()
    told = failure_json(error)
    if isinstance(error, (AnswerError, OutputError)):
        told["traceback"] = ""  # it is raised by us, after the handler is done
        return grpc.StatusCode.UNKNOWN, remote_error(told), (("x-sluice-code", "handler_output_invalid"),)
    names = ",".join(name for name in told["mro"][:30] if name.isascii())
    return grpc.StatusCode.UNKNOWN, remote_error(told), (("x-sluice-mro", names),)
