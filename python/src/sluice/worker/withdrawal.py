"""Which batches have begun, and which the host has taken back before they did.

On a socket of its own, beside the frames: there a request would lie behind the batches that it names.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from contextlib import suppress

_REQUEST = struct.Struct("<QQ")
"""The first and the last batch that the host wants back."""
_ANSWER = struct.Struct("<Q")
"""The batch that began last; later ones of the request do not begin."""


class Turns:
    """What has begun was not taken back, and the other way round: both are decided under one lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = 0
        self._withdrawn: set[int] = set()

    def begin(self, batch: int) -> bool:
        """Whether it may begin; nobody waits for an answer to one that may not."""
        with self._lock:
            if batch in self._withdrawn:
                self._withdrawn.discard(batch)
                return False
            self._begun = batch
            return True

    def withdraw(self, first: int, last: int) -> int:
        """Takes back those from ``first`` to ``last`` that have not begun; answers the one that began last."""
        with self._lock:
            self._withdrawn.update(range(max(first, self._begun + 1), last + 1))
            return self._begun


def listen(frames: socket.socket, control: socket.socket, turns: Turns) -> None:
    """Answers the host while the body runs, and ends the process as soon as the host is gone. Costs nothing until then."""
    poll = select.poll()
    poll.register(frames.fileno(), getattr(select, "POLLRDHUP", 0))
    poll.register(control.fileno(), select.POLLIN)

    def serve() -> None:
        with suppress(OSError):
            while all(ready == control.fileno() for ready, _ in poll.poll()):
                request = control.recv(_REQUEST.size, socket.MSG_WAITALL)
                if len(request) < _REQUEST.size:
                    break
                control.sendall(_ANSWER.pack(turns.withdraw(*_REQUEST.unpack(request))))
        os._exit(0)

    threading.Thread(target=serve, name="sluice-host-watch", daemon=True).start()
