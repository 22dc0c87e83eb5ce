"""An exception as JSON: kind, message, traceback, class names; our own frames and unprintable messages taken care of."""

from __future__ import annotations

import os
import traceback
from types import TracebackType
from typing import Any

MESSAGE_CHARACTERS_MAX = 4096
TRACEBACK_CHARACTERS_MAX = 16 * 1024
"""Enough for the frames that matter; an error is stored with every row that it failed."""
_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_ASYNCIO = os.sep + "asyncio" + os.sep


def _is_machinery(trace: TracebackType) -> bool:
    file = trace.tb_frame.f_code.co_filename
    return file.startswith((_PACKAGE, "<frozen importlib")) or _ASYNCIO in file


def _user_part(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the user's first frame on; all of it when there is none."""
    at = trace
    while at is not None and _is_machinery(at):
        at = at.tb_next
    return at


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit // 4]}\n[…]\n{text[-(limit * 3 // 4) :]}"


def printable(text: str) -> str:
    """Lone surrogates cannot travel as UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def message_of(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as second:  # a user's __str__ may do anything
        text = f"<its message cannot be printed: {type(second).__name__}>"
    return printable(_cut(text, MESSAGE_CHARACTERS_MAX))


def trace_text(error: BaseException) -> str:
    try:
        told = traceback.TracebackException(type(error), error, _user_part(error.__traceback__), compact=True)
        told.stack = traceback.StackSummary.from_list([at for at in told.stack if not at.filename.startswith(_PACKAGE)])
        text = "".join(told.format())
    except Exception as second:
        text = f"<the traceback cannot be printed: {type(second).__name__}>"
    return printable(_cut(text, TRACEBACK_CHARACTERS_MAX))


def failure_json(error: BaseException, code: str | None = None) -> dict[str, Any]:
    names = [kind.__name__ for kind in type(error).__mro__ if kind is not object]
    told: dict[str, Any] = {
        "kind": type(error).__name__,
        "message": message_of(error),
        "traceback": trace_text(error),
        "mro": names,
    }
    if code is not None:
        told["code"] = code
    return told
