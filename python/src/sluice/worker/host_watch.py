"""The end of a handler process with its host, whatever the user's code does (docs/decisions/0001)."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys

_PR_SET_PDEATHSIG = 1


def end_with_host(frames: socket.socket) -> None:
    """Has the kernel kill this process when its host dies, also while native code holds the interpreter.

    On Linux. Elsewhere only the thread of :func:`sluice.worker.withdrawal.listen` watches the host, which needs the
    interpreter for it. The signal comes with the death of the host's thread that started this process, which is its main
    thread (prctl(2)); it is not inherited by what the user's code starts.
    """
    if sys.platform != "linux":
        return
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    except (ImportError, OSError, AttributeError):
        return  # a Python without ctypes, or a sandbox without prctl: as elsewhere
    # A host that died before sends no signal. Its sockets were closed before its children got another parent.
    gone = select.poll()
    gone.register(frames.fileno(), select.POLLRDHUP)
    if gone.poll(0):
        os._exit(0)
