"""``@sluice.function``: a body with the options of its batching, retries and environment."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar, overload

from sluice import hints, options
from sluice.context import Context
from sluice.errors import DeclarationError
from sluice.image import Image, checked_env
from sluice.options import RetryPolicy

P = ParamSpec("P")
R = TypeVar("R")

DECLARED: list[Function[..., Any]] = []
"""Every function of this process in the order of declaration, so that a file's can be listed."""


class Function(Generic[P, R]):
    """A declared function. Calling it runs the body here; ``sluice deploy`` and :func:`sluice.deploy` register it.

    ``spec`` is the SPEC of docs/API.md without ``handler``, ``source`` and the interpreter, which belong to a deploy.
    """

    def __init__(self, body: Callable[P, R], spec: dict[str, Any], plan: Plan, module_file: str | None):
        functools.update_wrapper(self, body)
        self.body = body
        self.name: str = spec["name"]
        self.spec = spec
        self.plan = plan
        self.module_file = module_file

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        context = self.plan.context
        if context is not None and context not in kwargs and len(args) < self.plan.context_at + 1:
            kwargs[context] = Context(function=self.name)
        return self.body(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<sluice.Function {self.name}>"


class Plan:
    """How a batch is handed to the body; the worker reads it."""

    def __init__(
        self,
        mode: hints.InputMode,
        parameters: list[hints.Parameter],
        context: str | None,
        body: Callable[..., Any],
        hooks: tuple[Callable[[], Any] | None, Callable[[], Any] | None],
    ):
        self.mode = mode
        self.parameters = parameters
        self.context = context
        found = inspect.signature(body).parameters
        self.context_at = list(found).index(context) if context else -1
        # Inputs can be given by position where nothing stands between or before them; that is the faster way.
        by_name = any(found[one.name].kind is inspect.Parameter.KEYWORD_ONLY for one in parameters)
        self.positional = not by_name and self.context_at in (-1, len(parameters))
        self.on_startup, self.on_shutdown = hooks


@overload
def function(body: Callable[P, R], /) -> Function[P, R]: ...


@overload
def function(
    *,
    name: str | None = None,
    image: Image | None = None,
    cpu: float | None = None,
    memory: str | int | None = None,
    gpu: str | None = None,
    max_batching_size: int | None = None,
    max_buffer_duration: int | None = None,
    max_batch_bytes: int | None = None,
    retries: int | RetryPolicy = 3,
    isolation: str = "bisect",
    call_timeout: float = options.CALL_TIMEOUT_S,
    min_replicas: int = 1,
    max_replicas: int | None = None,
    task: str | None = None,
    output_type: Any = None,
    input_types: Any = None,
    on_startup: Callable[[], Any] | None = None,
    on_shutdown: Callable[[], Any] | None = None,
    env: Mapping[str, str] | None = None,
) -> Callable[[Callable[P, R]], Function[P, R]]: ...


def function(
    body: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    image: Image | None = None,
    cpu: float | None = None,
    memory: str | int | None = None,
    gpu: str | None = None,
    max_batching_size: int | None = None,
    max_buffer_duration: int | None = None,
    max_batch_bytes: int | None = None,
    retries: int | RetryPolicy = 3,
    isolation: str = "bisect",
    call_timeout: float = options.CALL_TIMEOUT_S,
    min_replicas: int = 1,
    max_replicas: int | None = None,
    task: str | None = None,
    output_type: Any = None,
    input_types: Any = None,
    on_startup: Callable[[], Any] | None = None,
    on_shutdown: Callable[[], Any] | None = None,
    env: Mapping[str, str] | None = None,
) -> Any:
    """Declares a function.

    Args:
        name: what callers name; by default the body's own name.
        image, env: where it runs, and its environment variables.
        cpu, memory, gpu: what one replica needs; memory as ``"4Gi"`` or bytes.
        max_batching_size: rows of a batch at most.
        max_buffer_duration: milliseconds that the oldest row of a batch waits at most.
        max_batch_bytes: Arrow bytes of a batch at most (default 64 MiB).
        retries: how often a failed batch runs again, or a whole :class:`RetryPolicy`.
        isolation: ``"bisect"`` finds the guilty rows of a batch that goes on failing, ``"off"`` fails all of them.
        call_timeout: seconds that the body may take for a batch.
        min_replicas, max_replicas: handler processes.
        task: what OpenAI's clients may use it for: ``"embedding"`` (texts, or lists of token numbers, to lists of numbers)
            or ``"completion"`` (a prompt or messages to a text).
        output_type: a pyarrow type or an annotation; needed where the return annotation does not say it.
        input_types: name → pyarrow type (or a ``pyarrow.Schema``), in place of what the annotations say.
        on_startup, on_shutdown: run once in each replica, before its first batch and before it leaves.

    Raises:
        DeclarationError: an option or an annotation is wrong; the message names it, its value and what is allowed.
    """
    given = dict(locals())
    del given["body"]
    if body is None:
        module = sys._getframe(1).f_globals
        return lambda decorated: _declare(decorated, given, module)
    if not callable(body):
        raise DeclarationError(f"@sluice.function got {body!r}; write @sluice.function or @sluice.function(name=…)")
    return _declare(body, given, sys._getframe(1).f_globals)


def _declare(body: Callable[..., Any], given: dict[str, Any], module: dict[str, Any]) -> Function[..., Any]:
    if isinstance(body, Function):
        raise DeclarationError(f"{body.name} is a sluice.function already; decorate the body once")
    if not inspect.isroutine(body) and not isinstance(body, functools.partial):
        raise DeclarationError(f"@sluice.function got {body!r}; it takes a function")
    name = options.function_name(given["name"] if given["name"] is not None else getattr(body, "__name__", None))
    types = _input_types(name, given["input_types"])
    resolved = hints.hints_of(body, name)
    parameters, context = hints.parameters_of(body, name, resolved, types)
    mode = hints.mode_of(name, parameters)
    spec = {
        "name": name,
        "runtime": "python",
        "input_mode": mode,
        "inputs": hints.inputs_json(name, mode, parameters, types),
        "output": hints.output_json(name, mode, resolved.get("return"), given["output_type"]),
        **_option_json(name, given),
    }
    hooks = tuple(options.optional_callable(hook, given[hook]) for hook in ("on_startup", "on_shutdown"))
    plan = Plan(mode, parameters, context, body, hooks)
    file = module.get("__file__")
    declared = Function(body, spec, plan, None if file is None else os.path.abspath(file))
    DECLARED.append(declared)
    return declared


def _input_types(name: str, given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return dict(given)
    pa = sys.modules.get("pyarrow")
    if pa is not None and isinstance(given, pa.Schema):
        return {field.name: field for field in given}
    raise DeclarationError(f"function {name}: input_types is {given!r}; it takes a dict of name to type, or a pyarrow.Schema")


def _option_json(name: str, given: dict[str, Any]) -> dict[str, Any]:
    try:
        return _checked_options(given)
    except DeclarationError as error:
        raise DeclarationError(f"function {name}: {error}") from None


def _checked_options(given: dict[str, Any]) -> dict[str, Any]:
    least = options.integer("min_replicas", given["min_replicas"], 0, options.REPLICAS_MAX)
    most = given["max_replicas"]
    if most is not None and options.integer("max_replicas", most, 1, options.REPLICAS_MAX) < least:
        options.refuse("max_replicas", most, f"at least min_replicas ({least})")
    size = given["max_batch_bytes"]
    cpu = given["cpu"]
    return {
        "max_batching_size": options.optional_integer("max_batching_size", given["max_batching_size"], 1, options.ROWS_MAX),
        "max_buffer_duration": options.optional_integer("max_buffer_duration", given["max_buffer_duration"], 0, options.DAY_MS),
        "max_batch_bytes": options.BATCH_BYTES
        if size is None
        else options.integer("max_batch_bytes", size, options.BATCH_BYTES_MIN, options.BATCH_BYTES_MAX),
        "retry": RetryPolicy.of(given["retries"]).to_json(),
        "isolation": options.choice("isolation", given["isolation"], ("bisect", "off")),
        "call_timeout_ms": round(options.number("call_timeout", given["call_timeout"], 0.001, 7 * 86_400, " of seconds") * 1000),
        "min_replicas": least,
        "max_replicas": max(1, least) if most is None else most,
        "resources": {
            "cpu": None if cpu is None else options.number("cpu", cpu, 0.001, 10_000, " of cores"),
            "memory_bytes": options.memory_bytes(given["memory"]),
            "gpu": options.optional_text("gpu", given["gpu"]),
        },
        "environment": _environment(given["image"], given["env"]),
        **({} if given["task"] is None else {"task": options.choice("task", given["task"], ("embedding", "completion"))}),
    }


def _environment(image: Any, env: Any) -> dict[str, Any]:
    if image is not None and not isinstance(image, Image):
        options.refuse("image", image, 'a sluice.Image, as sluice.Image.base("python:3.12-slim")')
    return {
        "base": image.name if image else None,
        "steps": list(image.steps) if image else [],
        "env": {**(image.variables if image else {}), **checked_env("env", env or {})},
        "isolated": False,
    }
