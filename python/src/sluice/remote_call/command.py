"""The command line of ``sluice-remote-call``."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

PORT_VARIABLES = ("SLUICE_REMOTE_CALL_PORT", "CHALK_REMOTE_CALL_PORT", "PORT")
DEFAULT_PORT = 8080


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{port} is not a port (0 to 65535)")
    return port


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 1024:
        raise argparse.ArgumentTypeError(f"{count} is not a number of calls at once (1 to 1024)")
    return count


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("sluice-remote-call", description="Serves a handler over gRPC, as Sluice's containers do.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--handler", metavar="MODULE.NAME", help="a function (event, context), as model.handler")
    what.add_argument("--model-directory", metavar="DIR", help="serves the registered model whose artifacts lie there")
    parser.add_argument("--on-startup", metavar="MODULE.NAME", help="runs before the port opens; else the module's on_startup")
    parser.add_argument("--on-shutdown", metavar="MODULE.NAME", help="runs after the last call; else the module's on_shutdown")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on (default %(default)s)")
    variables = ", ".join(f"${name}" for name in PORT_VARIABLES)
    parser.add_argument("--port", type=_port, help=f"port; else {variables}, else {DEFAULT_PORT}; 0 takes a free one")
    parser.add_argument("--concurrency", type=_count, default=1, help="calls that run at once (default %(default)s)")
    parser.add_argument("--grace", type=float, default=30.0, help="seconds that running calls have after SIGTERM (default 30)")
    return parser


def _port_of(given: int | None) -> int:
    if given is not None:
        return given
    for name in PORT_VARIABLES:
        if os.environ.get(name):
            try:
                return _port(os.environ[name])
            except (ValueError, argparse.ArgumentTypeError):
                _fail(f"${name} is {os.environ[name]!r}, which is not a port (0 to 65535)")
    return DEFAULT_PORT


def _fail(message: str) -> NoReturn:
    print(f"sluice-remote-call: {message}", file=sys.stderr, flush=True)
    sys.exit(2)


def _handler(options: argparse.Namespace) -> tuple[Callable[..., Any], Any, Any]:
    """Handler, startup hook, shutdown hook."""
    from sluice.remote_call.handlers import find, hook_of

    if options.model_directory is not None:
        from sluice.remote_call.model import model_handler

        return model_handler(options.model_directory)
    handler = find(options.handler, "--handler")
    on_startup = hook_of(options.on_startup, options.handler, "on_startup")
    return handler, on_startup, hook_of(options.on_shutdown, options.handler, "on_shutdown")


async def _serve(serving: Any) -> None:
    from sluice.remote_call.server import Server

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if stopped.is_set():
            os._exit(1)  # asked a second time
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    server = Server(serving)
    start = asyncio.ensure_future(server.start())
    await asyncio.wait([start, asyncio.ensure_future(stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
    if not start.done():
        os._exit(1)  # a startup hook that is cut off may be anywhere
    start.result()
    print(f"sluice-remote-call listens on {serving.host}:{server.port}", flush=True)
    await stopped.wait()
    await server.stop()


def main() -> None:
    options = _parser().parse_args()
    try:
        from sluice.remote_call.handlers import HandlerNotFound
        from sluice.remote_call.server import Serving
    except ImportError as error:
        from sluice.requirements import requirement

        _fail(f"{error}; install it with: {sys.executable} -m pip install {requirement('remote-call')}")
    code = 0
    try:
        handler, on_startup, on_shutdown = _handler(options)
        names = os.environ.get("CHALK_INPUT_ARGS")
        serving = Serving(
            handler,
            on_startup,
            on_shutdown,
            host=options.host,
            port=_port_of(options.port),
            concurrency=options.concurrency,
            grace_s=options.grace,
            input_names=[name.strip() for name in names.split(",")] if names else None,
        )
        asyncio.run(_serve(serving))
    except HandlerNotFound as error:
        _fail(str(error))
    except Exception as error:
        from sluice.failure import trace_text

        print(trace_text(error), file=sys.stderr, end="")
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # threads of the handler's libraries must not keep a stopped server alive
