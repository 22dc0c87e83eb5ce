"""Sluice: an async batching function queue.

Declare a function with :func:`function`, deploy its file with ``sluice deploy FILE`` or :func:`deploy`, and call it
through :class:`Remote`. Names load when they are first used, so that a handler process pays for none of the client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sluice.context import CallContext, Context
    from sluice.deployment import deploy
    from sluice.errors import (
        CallFailedError,
        ChunkFailedError,
        ConnectionError,
        DeclarationError,
        RowError,
        ServerError,
        SluiceError,
        TimeoutError,
    )
    from sluice.declaration import Function, function
    from sluice.handle import AsyncFunctionCallHandle
    from sluice.image import Image
    from sluice.options import RetryPolicy
    from sluice.remote import Remote, RemoteFunction

__version__ = "0.1.0"

_HOMES = {
    "AsyncFunctionCallHandle": "handle",
    "CallContext": "context",
    "CallFailedError": "errors",
    "ChunkFailedError": "errors",
    "ConnectionError": "errors",
    "Context": "context",
    "DeclarationError": "errors",
    "Function": "declaration",
    "Image": "image",
    "Remote": "remote",
    "RemoteFunction": "remote",
    "RetryPolicy": "options",
    "RowError": "errors",
    "ServerError": "errors",
    "SluiceError": "errors",
    "TimeoutError": "errors",
    "deploy": "deployment",
    "function": "declaration",
}

__all__ = [
    "AsyncFunctionCallHandle",
    "CallContext",
    "CallFailedError",
    "ChunkFailedError",
    "ConnectionError",
    "Context",
    "DeclarationError",
    "Function",
    "Image",
    "Remote",
    "RemoteFunction",
    "RetryPolicy",
    "RowError",
    "ServerError",
    "SluiceError",
    "TimeoutError",
    "deploy",
    "function",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'sluice' has no attribute {name!r}")
    value = getattr(import_module(f"sluice.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
