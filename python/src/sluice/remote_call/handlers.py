"""The user's code: found by name, and run on threads of its own so that the server always answers."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_DONE = object()


class HandlerNotFound(Exception):
    """The name of a handler or hook that leads nowhere."""


def find(path: str, option: str) -> Callable[..., Any]:
    """``package.module.attribute``; the working directory is looked into first."""
    module_name, _, attribute = path.rpartition(".")
    if not module_name:
        raise HandlerNotFound(f"{option} {path!r}: write module.attribute, as model.handler")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise
        raise HandlerNotFound(f"{option} {path!r}: there is no module {error.name!r} in {os.getcwd()} or on the path") from None
    found = getattr(module, attribute, None)
    if not callable(found):
        raise HandlerNotFound(f"{option} {path!r}: {module_name} has no callable {attribute!r}")
    return found


def hook_of(path: str | None, handler_path: str, name: str) -> Callable[[], Any] | None:
    """The hook that is named, or the one of that name in the handler's module."""
    if path is not None:
        return find(path, "--" + name.replace("_", "-"))
    found = getattr(sys.modules.get(handler_path.rpartition(".")[0]), name, None)
    return found if callable(found) else None


class UserThreads:
    """``concurrency`` threads for plain functions, one loop in a thread for coroutines.

    With a concurrency of 1, hooks and batches all run on the same thread, as libraries that keep to a thread want it.
    """

    def __init__(self, concurrency: int):
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="handler")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slots = asyncio.Semaphore(concurrency)

    async def hook(self, hook: Callable[[], Any] | None) -> None:
        if hook is not None:
            await self._finished(await self._call(hook))

    async def run(self, handler: Callable[..., Any], event: Any, context: Any) -> AsyncIterator[tuple[Any, bool]]:
        """What the handler answers: (value, False), or (item, True) for each item of a generator."""
        async with self._slots:
            returned = await self._finished(await self._call(handler, event, context))
            if hasattr(returned, "__anext__"):
                step, close = lambda: self._on_loop(_next_async(returned)), lambda: self._on_loop(_close(returned))
                async for item in self._items(step, close):
                    yield item, True
            elif hasattr(returned, "__next__"):
                step, close = lambda: self._call(next, returned, _DONE), lambda: self._call(_close_plain, returned)
                async for item in self._items(step, close):
                    yield item, True
            else:
                yield returned, False

    async def _items(self, step: Callable[[], Any], close: Callable[[], Any]) -> AsyncIterator[Any]:
        try:
            while (item := await step()) is not _DONE:
                yield item
        finally:
            await asyncio.shield(asyncio.ensure_future(close()))

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return asyncio.get_running_loop().run_in_executor(self._pool, _carried, function, arguments)

    async def _finished(self, value: Any) -> Any:
        return await self._on_loop(_awaited(value)) if inspect.isawaitable(value) else value

    async def _on_loop(self, coroutine: Any) -> Any:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="handler-loop", daemon=True).start()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_carried_async(coroutine), self._loop))


class Raised(Exception):
    """Carries what the user's code raised: some exceptions (StopIteration, SystemExit) mean something to executors."""

    def __init__(self, cause: BaseException):
        super().__init__(str(cause))
        self.cause = cause


def _carried(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        return function(*arguments)
    except BaseException as error:
        raise Raised(error) from None


async def _carried_async(coroutine: Any) -> Any:
    try:
        return await coroutine
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        raise Raised(error) from None


async def _awaited(value: Any) -> Any:
    return await value


async def _next_async(generator: Any) -> Any:
    try:
        return await generator.__anext__()
    except StopAsyncIteration:
        return _DONE


async def _close(generator: Any) -> None:
    if hasattr(generator, "aclose"):
        await generator.aclose()


def _close_plain(generator: Any) -> None:
    if hasattr(generator, "close"):
        generator.close()
