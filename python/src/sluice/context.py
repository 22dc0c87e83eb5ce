"""What a body learns about its batch when it declares a ``context: sluice.Context`` parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True)
class CallContext:
    """One call whose rows are in the batch. ``rows``: how many of them, ``metadata``: as its caller gave it."""

    call_id: str
    rows: int
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """The batch that runs. ``attempt`` counts from 1; ``deadline`` is the earliest of its calls, in UTC.

    A body that is called locally gets ``Context(function=NAME)``.
    """

    function: str
    version: str = "local"
    batch_id: int = 0
    attempt: int = 1
    calls: tuple[CallContext, ...] = ()
    deadline: datetime | None = None
    traceparent: str | None = None
