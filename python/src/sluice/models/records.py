"""What the server says of models and scaling groups, as frozen objects. ``document`` is its JSON, whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from sluice.models.schema import arrow_schema

Json = Mapping[str, Any]


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text.replace("Z", "+00:00"))


@dataclass(frozen=True)
class ModelFile:
    """One file of a version; ``digest`` is ``sha256:`` and 64 hex digits."""

    path: str
    digest: str
    bytes: int


@dataclass(frozen=True)
class ModelVersion:
    """``model_version`` is its number. ``format``: how the model object was saved (None: none was), ``format_reason``: why so."""

    name: str
    model_version: int
    input_schema: pa.Schema
    output_schema: pa.Schema
    files: tuple[ModelFile, ...]
    dependencies: tuple[str, ...]
    metadata: Mapping[str, str]
    stage: str | None
    aliases: tuple[str, ...]
    used_by: tuple[str, ...]
    format: str | None
    format_reason: str | None
    created_at: datetime | None
    document: Json = field(repr=False)

    @classmethod
    def of(cls, document: Json) -> ModelVersion:
        saved = (document.get("loader") or {}).get("model") or {}
        return cls(
            name=document["model"],
            model_version=document["version"],
            input_schema=arrow_schema(list(document["inputs"])),
            output_schema=arrow_schema(list(document["outputs"])),
            files=tuple(ModelFile(one["path"], one["digest"], one["bytes"]) for one in document.get("files") or ()),
            dependencies=tuple(document.get("dependencies") or ()),
            metadata=dict(document.get("metadata") or {}),
            stage=document.get("stage"),
            aliases=tuple(document.get("aliases") or ()),
            used_by=tuple(document.get("used_by") or ()),
            format=saved.get("format"),
            format_reason=saved.get("why"),
            created_at=_time(document.get("created_at")),
            document=document,
        )


@dataclass(frozen=True)
class Model:
    """``versions``: the numbers that are there, ascending. ``aliases``: alias → number."""

    name: str
    description: str
    latest_version: int | None
    versions: tuple[int, ...]
    aliases: Mapping[str, int]
    created_at: datetime | None
    updated_at: datetime | None
    document: Json = field(repr=False)

    @classmethod
    def of(cls, document: Json) -> Model:
        return cls(
            name=document["name"],
            description=document.get("description") or "",
            latest_version=document.get("latest_version"),
            versions=tuple(document.get("versions") or ()),
            aliases=dict(document.get("aliases") or {}),
            created_at=_time(document.get("created_at")),
            updated_at=_time(document.get("updated_at")),
            document=document,
        )


@dataclass(frozen=True)
class Difference:
    """A member of two versions that is not the same."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True)
class FileChange:
    """``change``: added, removed or changed; ``before`` and ``after`` are digests, or None."""

    path: str
    change: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Comparison:
    """Two versions of one model."""

    from_version: int
    to_version: int
    differences: tuple[Difference, ...]
    files: tuple[FileChange, ...]

    @classmethod
    def of(cls, document: Json) -> Comparison:
        return cls(
            from_version=document["from"],
            to_version=document["to"],
            differences=tuple(Difference(one["field"], one.get("from"), one.get("to")) for one in document["differences"]),
            files=tuple(FileChange(one["path"], one["change"], one.get("from"), one.get("to")) for one in document["files"]),
        )


@dataclass(frozen=True)
class Replica:
    """One process, container or pod. ``place`` is its id there; ``cpu_percent`` of one core; None where nobody knows."""

    version: int | None
    index: int
    state: str
    reason: str | None
    place: str | None
    devices: tuple[int, ...]
    restarts: int
    running_rows: int
    cpu_percent: float | None
    memory_bytes: int | None
    worker: str | None

    @classmethod
    def of(cls, document: Json) -> Replica:
        return cls(
            version=document.get("version"),
            index=document["index"],
            state=document["state"],
            reason=document.get("reason"),
            place=document.get("place"),
            devices=tuple(document.get("devices") or ()),
            restarts=document.get("restarts") or 0,
            running_rows=document.get("running_rows") or 0,
            cpu_percent=document.get("cpu_percent"),
            memory_bytes=document.get("memory_bytes"),
            worker=document.get("worker"),
        )


@dataclass(frozen=True)
class Event:
    """What happened to a group: ``kind`` is deployed, updating, updated, rolled_back, scaled …"""

    at: datetime | None
    kind: str
    text: str


@dataclass(frozen=True)
class ScalingGroup:
    """``function`` is what callers name; ``version`` the one that calls go to; ``updating_to`` the one that starts beside it.

    ``state``: starting, ready, updating, degraded, failed or idle; ``reason`` says why, where it is not ready.
    """

    name: str
    function: str
    model: str
    version: int
    requested_version: Any
    backend: str | None
    state: str
    reason: str | None
    ready: int
    starting: int
    failed: int
    replicas: tuple[Replica, ...]
    updating_to: int | None
    scaling: Json
    resources: Json
    env: Mapping[str, str]
    events: tuple[Event, ...]
    created_at: datetime | None
    updated_at: datetime | None
    document: Json = field(repr=False)

    @classmethod
    def of(cls, document: Json) -> ScalingGroup:
        replicas = document.get("replicas") or {}
        update = document.get("update") or {}
        return cls(
            name=document["name"],
            function=document["function"],
            model=document["model"],
            version=document["version"],
            requested_version=document.get("requested_version"),
            backend=document.get("backend"),
            state=document["state"],
            reason=document.get("reason") or update.get("reason"),
            ready=replicas.get("ready") or 0,
            starting=replicas.get("starting") or 0,
            failed=replicas.get("failed") or 0,
            replicas=tuple(Replica.of(one) for one in replicas.get("details") or ()),
            updating_to=update.get("version"),
            scaling=dict(document.get("scaling") or {}),
            resources=dict(document.get("resources") or {}),
            env=dict(document.get("env") or {}),
            events=tuple(Event(_time(one.get("at")), one["kind"], one.get("text") or "") for one in document.get("events") or ()),
            created_at=_time(document.get("created_at")),
            updated_at=_time(document.get("updated_at")),
            document=document,
        )
