"""The gRPC server around a handler.

on_startup ──► port opens, health SERVING ──► calls ──► SIGTERM: health NOT_SERVING,
               running calls finish ──► on_shutdown
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from sluice.remote_call import messages
from sluice.remote_call.failures import status_of
from sluice.remote_call.handlers import Raised, UserThreads
from sluice.remote_call.values import answer_of, batches_of, event_of, length_error, stream_of

MESSAGE_BYTES_MAX = 32 * 2**20
"""Each way; whoever calls cuts larger batches."""

_TOLD = {
    "x-sluice-version": ("version", str),
    "x-sluice-batch": ("batch_id", int),
    "x-sluice-attempt": ("attempt", int),
    "x-sluice-deadline-ms": ("deadline_ms", int),
    "traceparent": ("traceparent", str),
}


@dataclass(frozen=True)
class Serving:
    """A handler and how it is served."""

    handler: Callable[..., Any]
    on_startup: Callable[[], Any] | None = None
    on_shutdown: Callable[[], Any] | None = None
    host: str = "0.0.0.0"
    port: int = 8080
    concurrency: int = 1
    grace_s: float = 30.0
    input_names: list[str] | None = None


def context_of(name: str, call: Any) -> dict[str, Any]:
    metadata = {key: value for key, value in call.invocation_metadata() or () if isinstance(value, str)}
    told = {key: kind(metadata[header]) for header, (key, kind) in _TOLD.items() if header in metadata}
    return {"function_name": name, "peer": call.peer(), "metadata": metadata, **told}


class Server:
    """One server of one handler. ``start`` raises what on_startup raised, or that the port is taken."""

    def __init__(self, serving: Serving):
        self._serving = serving
        self._threads = UserThreads(serving.concurrency)
        self._status = messages.NOT_SERVING
        self._changed = asyncio.Event()
        options = [
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            # Two servers of one port would share its calls without a word.
            ("grpc.so_reuseport", 0),
        ]
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((self._services(),))
        self.port = 0

    async def start(self) -> None:
        serving = self._serving
        try:
            await self._threads.hook(serving.on_startup)
        except Raised as error:
            raise error.cause from None
        _reflect(self._server)
        self.port = self._server.add_insecure_port(f"{serving.host}:{serving.port}")
        await self._server.start()
        self._tell(messages.SERVING)

    async def stop(self) -> None:
        """Running calls may finish within the grace; new ones are refused."""
        self._tell(messages.NOT_SERVING)
        await self._server.stop(self._serving.grace_s)
        try:
            await self._threads.hook(self._serving.on_shutdown)
        except Raised as error:
            raise error.cause from None

    def _tell(self, status: int) -> None:
        self._status = status
        self._changed.set()
        self._changed = asyncio.Event()

    def _services(self) -> Any:
        call = grpc.stream_stream_rpc_method_handler(
            self._call_function,
            messages.CallFunctionRequest.FromString,
            messages.CallFunctionResponse.SerializeToString,
        )
        codec = (messages.HealthCheckRequest.FromString, messages.HealthCheckResponse.SerializeToString)
        handlers = {
            f"/{messages.CALL_SERVICE}/CallFunction": call,
            f"/{messages.HEALTH_SERVICE}/Check": grpc.unary_unary_rpc_method_handler(self._check, *codec),
            f"/{messages.HEALTH_SERVICE}/Watch": grpc.unary_stream_rpc_method_handler(self._watch, *codec),
        }

        class Services(grpc.GenericRpcHandler):
            def service(self, details: grpc.HandlerCallDetails) -> Any:
                return handlers.get(details.method)

        return Services()

    async def _check(self, request: Any, call: Any) -> Any:
        if request.service not in ("", messages.CALL_SERVICE, messages.HEALTH_SERVICE):
            await call.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here")
        return messages.HealthCheckResponse(status=self._status)

    async def _watch(self, request: Any, call: Any) -> AsyncIterator[Any]:
        while True:
            changed = self._changed
            yield await self._check(request, call)
            await changed.wait()

    async def _call_function(self, requests: AsyncIterator[Any], call: Any) -> AsyncIterator[Any]:
        request = await anext(aiter(requests), None)
        if request is None:
            return
        try:
            context = context_of(request.name, call)
            for batch in batches_of(request.feather_stream):
                event = event_of(batch, self._serving.input_names)
                async for answer in self._answers(event, context, batch.num_rows):
                    yield messages.CallFunctionResponse(feather_stream=answer)
        except Exception as error:
            code, details, trailers = status_of(error.cause if isinstance(error, Raised) else error)
            await call.abort(code, details, trailers)

    async def _answers(self, event: Any, context: Any, rows: int) -> AsyncIterator[bytes]:
        """A message for what the handler returned, or for each item of a generator; as many rows as came in all."""
        at = 0
        async for values, is_part in self._threads.run(self._serving.handler, event, context):
            batch = answer_of(values)
            at += batch.num_rows
            if at > rows or not (is_part or at == rows):
                raise length_error(rows, at)
            if batch.num_rows or not is_part:
                yield stream_of(batch)
        if at != rows:
            raise length_error(rows, at)


def _reflect(server: Any) -> None:
    """For grpcurl and its like, where grpcio-reflection is installed."""
    try:
        from grpc_reflection.v1alpha import reflection
    except ImportError:
        return
    names = (messages.CALL_SERVICE, messages.HEALTH_SERVICE, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, pool=messages.POOL)
