"""How a scaling group runs: replicas, resources, batching; checked here, sent as DEPLOYMENT of docs/decisions/0012-models.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from sluice import options
from sluice.engines import EngineSelector, json_of
from sluice.errors import DeclarationError
from sluice.image import checked_env
from sluice.options import RetryPolicy


@dataclass(frozen=True)
class AutoScalingSpec:
    """How many replicas a group has.

    ``target_cpu_utilization_percentage``: mean CPU of the replicas in percent of what each asked for; ``target_rows``: rows,
    waiting and running, that one replica is worth (by default twice the largest batch); ``target_wait_ms``: how old the oldest
    row may become; ``scale_down_ms``: replicas go only when they were not needed for so long; ``idle_ms``: with
    ``min_replicas=0`` the last one goes after so long without rows.
    """

    min_replicas: int = 1
    max_replicas: int | None = None
    target_cpu_utilization_percentage: float | None = None
    target_rows: int | None = None
    target_wait_ms: int | None = None
    scale_down_ms: int | None = None
    idle_ms: int | None = None

    def __post_init__(self) -> None:
        least = options.integer("min_replicas", self.min_replicas, 0, options.REPLICAS_MAX)
        if self.max_replicas is not None and options.integer("max_replicas", self.max_replicas, 1, options.REPLICAS_MAX) < least:
            options.refuse("max_replicas", self.max_replicas, f"at least min_replicas ({least})")
        if self.target_cpu_utilization_percentage is not None:
            options.number("target_cpu_utilization_percentage", self.target_cpu_utilization_percentage, 1, 10_000)
        options.optional_integer("target_rows", self.target_rows, 1, 10**9)
        for name in ("target_wait_ms", "scale_down_ms", "idle_ms"):
            options.optional_integer(name, getattr(self, name), 0, options.DAY_MS)

    def to_json(self) -> dict[str, Any]:
        """Without what is left to the server."""
        most = self.max_replicas
        given = {
            "min_replicas": self.min_replicas,
            "max_replicas": max(1, self.min_replicas) if most is None else most,
            "target_cpu_percent": self.target_cpu_utilization_percentage,
            "target_rows": self.target_rows,
            "target_wait_ms": self.target_wait_ms,
            "scale_down_ms": self.scale_down_ms,
            "idle_ms": self.idle_ms,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class ScalingGroupResourceRequest:
    """What one replica needs: ``cpu`` in cores (``"1"``, ``"500m"``, 0.5), ``memory`` (``"2Gi"`` or bytes), ``gpu`` as
    ``"nvidia-tesla-t4:1"``."""

    cpu: str | float | None = None
    memory: str | int | None = None
    gpu: str | None = None

    def __post_init__(self) -> None:
        self.to_json()

    def to_json(self) -> dict[str, Any]:
        return {
            "cpu": _cores(self.cpu),
            "memory_bytes": options.memory_bytes(self.memory),
            "gpu": options.optional_text("gpu", self.gpu),
        }


@dataclass(frozen=True)
class InferenceStore:
    """Keeps a sample of what a group is asked and answers, in Parquet files.

    ``sample_rate``: share of rows, above 0 to 1; ``retention_ms``: how long a file is kept after its last row, from a minute to
    400 days; ``flush_ms``: rows wait so long for their file at most, 100 ms to an hour. None: 1, a week, a minute.
    """

    sample_rate: float | None = None
    retention_ms: int | None = None
    flush_ms: int | None = None

    def __post_init__(self) -> None:
        if self.sample_rate is not None and options.number("inference_store.sample_rate", self.sample_rate, 0, 1) == 0:
            options.refuse(
                "inference_store.sample_rate", self.sample_rate, "a number above 0, to 1; leave the store out for none"
            )
        options.optional_integer("inference_store.retention_ms", self.retention_ms, 60_000, 400 * options.DAY_MS)
        options.optional_integer("inference_store.flush_ms", self.flush_ms, 100, 3_600_000)

    @classmethod
    def of(cls, value: Any) -> InferenceStore | None:
        """None and False: none. Raises DeclarationError."""
        if value is None or value is False:
            return None
        if value is True:
            return cls()
        if isinstance(value, cls):
            return value
        known = [one.name for one in fields(cls)]
        if not isinstance(value, Mapping) or any(name not in known for name in value):
            options.refuse("inference_store", value, f"a sluice.InferenceStore, a dict of {', '.join(known)}, or True")
        return cls(**value)

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def _cores(value: Any) -> float | None:
    if value is None:
        return None
    cores = value
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)(m?)", value.strip())
        if match is None:
            options.refuse("cpu", value, 'cores, as "1", "0.5" or "500m"')
        cores = float(match[1]) / (1000 if match[2] else 1)
    return options.number("cpu", cores, 0.001, 10_000, " of cores")


def deployment_json(given: Mapping[str, Any]) -> dict[str, Any]:
    """The body of PUT /v1/scaling-groups/{group}; what is None is the server's to choose."""
    scaling, resources = given["scaling"] or AutoScalingSpec(), given["resources"]
    if not isinstance(scaling, AutoScalingSpec):
        options.refuse("scaling", scaling, "a sluice.AutoScalingSpec")
    if resources is not None and not isinstance(resources, ScalingGroupResourceRequest):
        options.refuse("resources", resources, "a sluice.ScalingGroupResourceRequest")
    timeout, selector = given["call_timeout"], given["engine_selector"]
    store = InferenceStore.of(given["inference_store"])
    body = {
        "model": given["model_name"],
        "version": _version(given["model_version"]),
        "backend": given["backend"],
        "scaling": scaling.to_json(),
        "resources": None if resources is None else resources.to_json(),
        "env": checked_env("env_vars", given["env_vars"] or {}),
        "image": given["image"],
        "handler": options.optional_text("handler", given["handler"]),
        "on_startup": options.optional_text("on_startup", given["on_startup"]),
        "entrypoint": _entrypoint(given["entrypoint"]),
        "port": options.optional_integer("port", given["port"], 1, 65535),
        "skip_artifacts": bool(given["skip_upload_to_volumes"]),
        "ready_timeout_ms": _milliseconds("ready_timeout", given["ready_timeout"]),
        "max_batching_size": options.optional_integer("max_batching_size", given["max_batching_size"], 1, options.ROWS_MAX),
        "max_buffer_duration": options.optional_integer("max_buffer_duration", given["max_buffer_duration"], 0, options.DAY_MS),
        "max_batch_bytes": options.optional_integer(
            "max_batch_bytes", given["max_batch_bytes"], options.BATCH_BYTES_MIN, options.BATCH_BYTES_MAX
        ),
        "retry": None if given["retries"] is None else RetryPolicy.of(given["retries"]).to_json(),
        "isolation": given["isolation"],
        "call_timeout_ms": _milliseconds("call_timeout", timeout),
        "task": given["task"],
        "engine_selector": None if selector is None else json_of("engine_selector", selector, EngineSelector),
        "inference_store": None if store is None else store.to_json(),
        "predictor_env_var": None if given["predictor_env_var"] is None else dict(given["predictor_env_var"]),
    }
    return {name: value for name, value in body.items() if value is not None}


def _version(value: Any) -> Any:
    if value is None or (isinstance(value, (int, str)) and not isinstance(value, bool)):
        return value
    raise DeclarationError(f"model_version is {value!r}; it takes a number, an alias, or None for the latest")


def _milliseconds(option: str, seconds: Any) -> int | None:
    return None if seconds is None else round(options.number(option, seconds, 0.001, 7 * 86_400, " of seconds") * 1000)


def _entrypoint(value: Any) -> list[str] | None:
    if value is None:
        return None
    if isinstance(value, str) or not all(isinstance(one, str) for one in value):
        raise DeclarationError(f'entrypoint is {value!r}; it takes a list of texts, as ["python", "-m", "server"]')
    return list(value)
