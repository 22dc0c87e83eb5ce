"""What a fork must not carry over: connections, whose answers either process would read, and threads, which the child lacks."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Something that each process makes for itself when it first asks. Two threads that ask at once may make one each, of which
    one is dropped: a lock around it could itself be held by another thread at a fork.

    What the parent made is let go in the child, which closes the child's own descriptors and nothing of the parent's.
    """

    def __init__(self, make: Callable[[], T]):
        self._make = make
        self._made: tuple[int, T] | None = None

    def get(self) -> T:
        made = self._made
        if made is None or made[0] != os.getpid():
            self._made = made = (os.getpid(), self._make())
        return made[1]
