"""The life of a handler process.

init ──► import, on_startup ──► ready ──► call, call, … ──► stop: on_shutdown, leave with 0
               └──► start_failed, leave with 1        any time the host is gone: leave at once
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from sluice.worker.withdrawal import Turns


def _imports() -> Any:
    try:
        from sluice.worker import channel
    except ImportError as error:
        print(f"sluice: {sys.executable} cannot run handlers: {error}; install the sluice package there", file=sys.stderr)
        sys.exit(1)
    return channel


def _leave(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _load(init: dict[str, Any]) -> Any:
    """The declared function that the spec's handler names, or the model of a version as one."""
    from sluice.declaration import Function
    from sluice.source import load

    handler = init["function"]["handler"]
    file = Path(init["directory"], handler["file"]).absolute()
    sys.argv = [str(file)]
    if init["function"].get("model") is not None:
        from sluice.models.serving import load_function

        return load_function(init["function"], init["directory"], init.get("artifacts") or init["directory"])
    found = getattr(load(file), handler["attribute"], None)
    if not isinstance(found, Function):
        raise TypeError(f"{handler['attribute']} of {handler['file']} is {found!r}, not a sluice.function")
    return found


class Replica:
    """A function that has been imported and started."""

    def __init__(self, init: dict[str, Any], channel: Any):
        from sluice.worker.running import EventLoop, Runner

        self._loop = EventLoop()
        function = _load(init)
        self._plan = function.plan
        self.runner = Runner(function, init, channel, self._loop)
        self._hook(self._plan.on_startup)

    @property
    def wants_context(self) -> bool:
        return self._plan.context is not None

    def stop(self) -> None:
        self._hook(self._plan.on_shutdown)

    def _hook(self, hook: Any) -> None:
        if hook is not None:
            self._loop.finish(hook())


def _started(channel: Any, init: dict[str, Any]) -> Replica:
    """Import and on_startup; a failure is told to the host and ends the process."""
    from sluice.failure import failure_json

    try:
        replica = Replica(init, channel)
    except BaseException as error:  # also a SystemExit of the user's file
        channel.send({"type": "start_failed", "error": failure_json(error)})
        _leave(1)
    # What the imports made stays for ever; the collector need not look at it again.
    gc.collect()
    gc.freeze()
    channel.send({"type": "ready", "pid": os.getpid(), "wants_context": replica.wants_context})
    return replica


def _serve(channel: Any, turns: Turns) -> None:
    from sluice.worker.batches import Batches

    header, _ = channel.receive()
    if header.get("type") != "init":
        return
    replica = _started(channel, header)
    batches = Batches(channel, replica.runner.read)
    while (batch := batches.next()) is not None:
        if not turns.begin(batch.header["id"]):
            continue
        began = time.perf_counter()
        if batch.is_cancelled:
            replica.runner.cancelled(batch.header)
        else:
            replica.runner.run(batch.header, batch.arguments)
        batches.ran(time.perf_counter() - began)
        batch = None  # a large batch's memory is free while we wait for the next
    replica.stop()


def main() -> None:
    channel = _imports()
    from sluice.worker.host_watch import end_with_host
    from sluice.worker.withdrawal import Turns, listen

    try:
        frames, control = channel.host_socket(3), channel.host_socket(4)
    except OSError:
        print("sluice.worker is started by the server, which hands it sockets as file descriptors 3 and 4.", file=sys.stderr)
        sys.exit(2)
    end_with_host(frames)
    channel.private_streams()
    turns = Turns()
    listen(frames, control, turns)
    # Ctrl+C in the server's terminal is the server's to handle; it stops its handlers by a frame. A handler function,
    # since SIG_IGN would be inherited by what the user's code starts.
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        _serve(channel.Channel(frames), turns)
    except (EOFError, channel.FrameError):
        _leave(0)
