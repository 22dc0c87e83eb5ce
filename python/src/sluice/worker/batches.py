"""What the host asks for, one batch after another.

A device waits while its next batch is read and decoded, with the processor's caches cold (measured for 64 texts: 0.4 ms).
Where bodies run long enough for a thread to be worth its handover, a thread does it while the body runs.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from sluice.worker.channel import LENGTHS, Channel

_LONG_SECONDS = 0.005
_LONG_RUNS = 3
"""So many runs of that length, one after another, start the thread. The host sends two batches ahead of such runs at most."""
_SHORT_RUNS = 30
"""So many shorter ones send it back: bodies of changing length keep it."""
_AHEAD_MAX = 2
"""Decoded batches that wait: after a slow start runs may be short, and the host then sends tens of batches ahead."""

Read = Callable[[dict[str, Any], Any], dict[str, Any]]
"""A call's header and body into the body's arguments."""


@dataclass
class Batch:
    """``arguments`` answers the body's arguments, or raises why there are none; to be asked once."""

    header: dict[str, Any]
    arguments: Callable[[], dict[str, Any]]
    is_cancelled: bool


class _Back:
    """The thread has gone, and what was read ahead has been taken."""


_Ahead = queue.Queue["Batch | BaseException | _Back | None"]


def _is_cancelled(pending: memoryview, batch: int) -> bool:
    """Whether a cancel of the batch lies among the frames that have arrived."""
    at = 0
    while at + 8 <= len(pending):
        frame, head = LENGTHS.unpack_from(pending, at)
        if at + 8 + head > len(pending) or frame < 4 + head:
            return False
        if frame == 4 + head:
            told = json.loads(bytes(pending[at + 8 : at + 8 + head]))
            if told.get("type") == "cancel" and told.get("id") == batch:
                return True
        at += 4 + frame
    return False


class Batches:
    """``next`` until it answers None; ``ran`` after each body."""

    def __init__(self, channel: Channel, read: Read):
        self._channel = channel
        self._read = read
        self._long_runs = 0
        self._short_runs = 0
        self._ahead: _Ahead | None = None
        self._cancelled: set[int] = set()
        self._taken = 0

    def next(self) -> Batch | None:
        """The next batch; None when the process shall stop. Raises EOFError or FrameError when the host is gone."""
        batch = self._received() if self._ahead is None else self._ahead.get()
        if isinstance(batch, _Back):
            self._ahead = None
            batch = self._received()
        if isinstance(batch, BaseException):
            raise batch
        if batch is not None:
            self._taken = batch.header["id"]
            batch.is_cancelled = batch.is_cancelled or self._taken in self._cancelled
            self._cancelled.discard(self._taken)
        return batch

    def ran(self, seconds: float) -> None:
        if seconds >= _LONG_SECONDS:
            self._long_runs, self._short_runs = self._long_runs + 1, 0
        else:
            self._long_runs, self._short_runs = 0, self._short_runs + 1
        if self._long_runs >= _LONG_RUNS and self._ahead is None:
            self._start_reading_ahead()

    def _start_reading_ahead(self) -> None:
        ahead: _Ahead = queue.Queue(_AHEAD_MAX)
        thread = threading.Thread(target=self._read_ahead, args=(ahead,), name="sluice-read-ahead", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return  # the system gives no more threads: batches are read between the bodies, as before
        self._ahead = ahead

    def _received(self) -> Batch | None:
        while True:
            header, body = self._channel.receive()
            kind = header.get("type")
            if kind == "stop":
                return None
            if kind == "cancel" and header["id"] > self._taken:
                self._cancelled.add(header["id"])
            if kind == "call":
                pending = self._channel.pending()
                is_cancelled = bool(pending) and _is_cancelled(pending, header["id"])
                return Batch(header, partial(self._read, header, body), is_cancelled)

    def _read_ahead(self, ahead: _Ahead) -> None:
        while True:
            try:
                batch = self._received()
            except BaseException as error:
                ahead.put(error)
                return
            if batch is not None and not batch.is_cancelled:
                batch.arguments = _decided(batch.arguments)
            ahead.put(batch)
            if batch is None:
                return
            if self._short_runs >= _SHORT_RUNS:
                ahead.put(_Back())
                return
            batch = None  # a large batch's memory is free when its body is done


def _decided(arguments: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Decodes now; what it comes to is told when it is asked for."""
    try:
        read = arguments()
    except BaseException as error:
        refusal = error

        def refused() -> dict[str, Any]:
            raise refusal

        return refused
    return lambda: read
