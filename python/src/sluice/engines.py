"""Inference engines: HTTP servers that serve models, registered once and run by scaling groups (docs/API.md, "Engines").

>>> from sluice import engines
>>> engines.create_engine_version(
...     project="vision", name="onnx", version="1", container_image_cpu="registry/onnx:1", inference_protocol="oip-v2")
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from sluice.errors import DeclarationError
from sluice.transport import RETRIES, Transport

PAGE = 1000
"""Engines of a page, at most."""
_JSON = {"content-type": "application/json"}


@dataclass(frozen=True)
class ReadinessProbe:
    """Kubernetes' meanings and defaults. ``path`` is from the container's root and may hold ``{model_id}``; None: ``/ready``
    below the base URL. ``port`` None: the engine's."""

    path: str | None = None
    port: int | None = None
    initial_delay_seconds: float = 0
    timeout_seconds: float = 1
    period_seconds: float = 10
    success_threshold: int = 1
    failure_threshold: int = 3


@dataclass(frozen=True)
class PredictorVariable:
    """A variable that whoever deploys a model may set. ``type``: string, int, bool or float."""

    name: str
    type: str = "string"
    default_value: Any = None
    display_text: str | None = None


@dataclass(frozen=True)
class EngineSelector:
    """Which engine serves a deployment; ``version`` None: the default one."""

    project_name: str
    engine_name: str
    version: str | None = None
    org_name: str | None = None


def json_of(option: str, value: Any, kind: type) -> Any:
    """The JSON of one of the classes above, or of a mapping that says the same."""
    if isinstance(value, kind):
        return asdict(value)  # type: ignore[call-overload]
    if isinstance(value, Mapping):
        return dict(value)
    raise DeclarationError(f"{option} is {value!r}; it takes a sluice.engines.{kind.__name__}, or a dict of its members")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


@dataclass(frozen=True)
class EngineVersion:
    """``document`` is the server's JSON, whole."""

    project: str
    name: str
    version: str
    is_default: bool
    container_image_cpu: str | None
    container_image_gpu: str | None
    supports_multi_gpu: bool
    env: Mapping[str, str]
    readiness_probe: ReadinessProbe
    container_root_relative_base_url: str
    predictor_env_schema: tuple[PredictorVariable, ...]
    enforce_predictor_env_schema: bool
    inference_protocol: str | None
    used_by: tuple[str, ...]
    created_at: datetime
    document: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> EngineVersion:
        return cls(
            project=document["project"],
            name=document["name"],
            version=document["version"],
            is_default=document["is_default"],
            container_image_cpu=document["container_image_cpu"],
            container_image_gpu=document["container_image_gpu"],
            supports_multi_gpu=document["supports_multi_gpu"],
            env=dict(document["env"]),
            readiness_probe=ReadinessProbe(**document["readiness_probe"]),
            container_root_relative_base_url=document["container_root_relative_base_url"],
            predictor_env_schema=tuple(PredictorVariable(**one) for one in document["predictor_env_schema"]),
            enforce_predictor_env_schema=document["enforce_predictor_env_schema"],
            inference_protocol=document["inference_protocol"],
            used_by=tuple(document["used_by"]),
            created_at=_time(document["created_at"]),
            document=document,
        )


@dataclass(frozen=True)
class Engine:
    """``versions`` in the order in which they came; ``default_version`` None: there is none now."""

    project: str
    name: str
    default_version: str | None
    versions: tuple[str, ...]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Engine:
        return cls(
            project=document["project"],
            name=document["name"],
            default_version=document["default_version"],
            versions=tuple(document["versions"]),
            created_at=_time(document["created_at"]),
            updated_at=_time(document["updated_at"]),
        )


class Engines:
    """The engines of one server: ``sluice.Client().engines``, or the functions of this module."""

    def __init__(self, transport: Transport):
        self._transport = transport

    def create_engine_version(
        self,
        project: str,
        name: str,
        version: str,
        *,
        container_image_cpu: str | None = None,
        container_image_gpu: str | None = None,
        is_default: bool = False,
        supports_multi_gpu: bool = False,
        env: Mapping[str, str] | None = None,
        entrypoint: Iterable[str] | None = None,
        command: Iterable[str] | None = None,
        port: int | None = None,
        readiness_probe: ReadinessProbe | Mapping[str, Any] | None = None,
        container_root_relative_base_url: str | None = None,
        predictor_env_schema: Iterable[PredictorVariable | Mapping[str, Any]] = (),
        enforce_predictor_env_schema: bool = False,
        inference_protocol: str | None = None,
    ) -> EngineVersion:
        """Registers a version; the same configuration again is the same version.

        Args:
            container_image_cpu, container_image_gpu: at least one, or a command for engines that run as processes. With one of
                them only, the engine does not run in the other mode.
            is_default: what selectors without a version mean from now on; the first version is the default in any case.
            supports_multi_gpu: replicas may have several GPUs; needs an image for GPUs.
            env: variables of every replica. ``SLUICE_*``, ``CHARIOT_*`` and ``PORT`` are reserved.
            entrypoint, command: of Kubernetes' ``command`` and ``args``; a process runs them joined.
            port: where it listens; by default that of the probe, or 8080.
            container_root_relative_base_url: what ``/ready`` and ``/infer`` lie below; ``{model_id}`` is the lower-cased name of
                the model. By default ``/v2/models/{model_id}`` with ``oip-v2``, else nothing.
            predictor_env_schema: variables that deployments may set. ``enforce_predictor_env_schema``: and no others.
            inference_protocol: ``oip-v2`` (or its alias ``chariot-v2-kserve``); None: plain JSON.

        Raises:
            ServerError ``invalid_engine``, ``engine_version_exists``; DeclarationError, ConnectionError.
        """
        given = {
            "project": project,
            "name": name,
            "version": version,
            "container_image_cpu": container_image_cpu,
            "container_image_gpu": container_image_gpu,
            "is_default": is_default,
            "supports_multi_gpu": supports_multi_gpu,
            "env": None if env is None else dict(env),
            "entrypoint": _words("entrypoint", entrypoint),
            "command": _words("command", command),
            "port": port,
            "readiness_probe": None if readiness_probe is None else json_of("readiness_probe", readiness_probe, ReadinessProbe),
            "container_root_relative_base_url": container_root_relative_base_url,
            "predictor_env_schema": [json_of("predictor_env_schema", one, PredictorVariable) for one in predictor_env_schema],
            "enforce_predictor_env_schema": enforce_predictor_env_schema,
            "inference_protocol": inference_protocol,
        }
        body = {member: value for member, value in given.items() if value is not None}
        return EngineVersion.of(self._json("POST", "/v1/engines", body))

    def list_engines(self, project: str | None = None) -> list[Engine]:
        """By project and name."""
        found: list[Engine] = []
        while True:
            last = f"{found[-1].project}/{found[-1].name}" if found else None
            query = {"limit": PAGE, "after": last, "project": project}
            text = urlencode({name: value for name, value in query.items() if value is not None})
            page = self._json("GET", f"/v1/engines?{text}")["engines"]
            found.extend(Engine.of(one) for one in page)
            if len(page) < PAGE:
                return found

    def get_engine(self, project: str, name: str) -> Engine:
        return Engine.of(self._json("GET", _engine(project, name)))

    def get_engine_version(self, project: str, name: str, version: str = "default") -> EngineVersion:
        return EngineVersion.of(self._json("GET", _version(project, name, version)))

    def set_default_engine_version(self, project: str, name: str, version: str) -> Engine:
        """Groups go on with what they run until they are deployed again."""
        return Engine.of(self._json("PUT", f"{_engine(project, name)}/default", {"version": version}))

    def delete_engine_version(self, project: str, name: str, version: str) -> None:
        """Raises ServerError ``engine_in_use`` while a scaling group runs it."""
        self._transport.request("DELETE", _version(project, name, version))

    def delete_engine(self, project: str, name: str) -> None:
        """All its versions. Raises ServerError ``engine_in_use`` while a scaling group runs one."""
        self._transport.request("DELETE", _engine(project, name))

    def _json(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        return self._transport.request(method, path, headers=_JSON if body is not None else {}, body=data).json()


def engines(url: str | None = None, api_key: str | None = None, *, retries: int = RETRIES) -> Engines:
    """Of the server of $SLUICE_URL, or of ``url``."""
    return Engines(Transport(url, api_key, retries))


def create_engine_version(
    project: str, name: str, version: str, *, url: str | None = None, api_key: str | None = None, **options: Any
) -> EngineVersion:
    """As :meth:`Engines.create_engine_version`."""
    return engines(url, api_key).create_engine_version(project, name, version, **options)


def list_engines(project: str | None = None, *, url: str | None = None, api_key: str | None = None) -> list[Engine]:
    return engines(url, api_key).list_engines(project)


def get_engine(project: str, name: str, *, url: str | None = None, api_key: str | None = None) -> Engine:
    return engines(url, api_key).get_engine(project, name)


def get_engine_version(
    project: str, name: str, version: str = "default", *, url: str | None = None, api_key: str | None = None
) -> EngineVersion:
    return engines(url, api_key).get_engine_version(project, name, version)


def set_default_engine_version(
    project: str, name: str, version: str, *, url: str | None = None, api_key: str | None = None
) -> Engine:
    return engines(url, api_key).set_default_engine_version(project, name, version)


def delete_engine_version(project: str, name: str, version: str, *, url: str | None = None, api_key: str | None = None) -> None:
    engines(url, api_key).delete_engine_version(project, name, version)


def delete_engine(project: str, name: str, *, url: str | None = None, api_key: str | None = None) -> None:
    engines(url, api_key).delete_engine(project, name)


def _words(option: str, value: Any) -> list[str] | None:
    if value is None:
        return None
    words = value if isinstance(value, str) else list(value)
    if isinstance(words, str) or not all(isinstance(one, str) for one in words):
        raise DeclarationError(f'{option} is {value!r}; it takes a list of texts, as ["python", "-m", "server"]')
    return words


def _quoted(text: Any) -> str:
    if not isinstance(text, str) or text in ("", ".", ".."):
        raise DeclarationError(f"a name is {text!r}; it takes a text")
    return quote(text, safe="")


def _engine(project: str, name: str) -> str:
    return f"/v1/engines/{_quoted(project)}/{_quoted(name)}"


def _version(project: str, name: str, version: str) -> str:
    return f"{_engine(project, name)}/versions/{_quoted(version)}"
