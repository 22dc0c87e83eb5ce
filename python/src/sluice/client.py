"""The client of models and scaling groups: register, compare, deploy, scale, roll back."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

import pyarrow as pa

from sluice import options
from sluice.deployment import imported_by_us
from sluice.engines import Engines, EngineSelector
from sluice.errors import DeclarationError, DeploymentError
from sluice.inferences import InferenceFile, InferenceFiles, Span, When
from sluice.models.deployment import AutoScalingSpec, InferenceStore, ScalingGroupResourceRequest, deployment_json
from sluice.models.drift import Drift, drift_json
from sluice.models.importing import StrPath, import_json, imported_files
from sluice.models.records import Comparison, Model, ModelVersion, ScalingGroup
from sluice.models.registration import LOADER_VERSION, Package, PackageOptions, packaged, walked_files
from sluice.models.schema import schema_fields
from sluice.models.upload import image_json, uploaded
from sluice.remote import Remote, RemoteFunction
from sluice.transport import RETRIES, Transport

READY_TIMEOUT_S = 900.0
"""Installing a framework and loading a model of gigabytes takes minutes."""
POLL_FIRST_S = 0.1
POLL_LONGEST_S = 2.0
GROUP_PREFIX = "model."
"""Before a group's name, it is that of its function."""
PAGE = 100
"""Versions of a page, at most."""
_JSON = {"content-type": "application/json"}


class Client:
    """Models and scaling groups of one Sluice server.

    Args:
        url: by default $SLUICE_URL, else http://127.0.0.1:7700.
        api_key: by default $SLUICE_API_KEY; without either none is sent. Changes need the scope ``deploy``.
        retries: how often a request that is safe to send again is sent again.
    """

    def __init__(self, url: str | None = None, api_key: str | None = None, *, retries: int = RETRIES):
        by = imported_by_us()
        if by is not None:
            raise DeclarationError(
                f"sluice.Client was made while {by} imports the file, which would deploy for ever; "
                'put what registers and deploys under `if __name__ == "__main__":`'
            )
        self._transport = Transport(url, api_key, retries)
        self.url = self._transport.url
        self.engines = Engines(self._transport)
        self._remote = Remote(url, api_key, retries=retries)

    def __repr__(self) -> str:
        return f"<sluice.Client {self.url}>"

    # Models

    def register_model_version(
        self,
        name: str,
        model: Any = None,
        *,
        input_schema: Any,
        output_schema: Any,
        dependencies: Iterable[str] | None = None,
        files: Any = (),
        metadata: Mapping[str, str] | None = None,
        aliases: Iterable[str] = (),
        stage: str | None = None,
        image: Any = None,
        model_image: Any = None,
        handler: str | None = None,
        pin_dependencies: bool = True,
        allow_pickle: bool = True,
    ) -> ModelVersion:
        """Makes the next version of a model, and the model when it is new.

        Args:
            model: an instance of a class with ``@sluice.model_handler``, or a bare model object; None with an image that has a
                handler of its own.
            input_schema, output_schema: name → Python type or Arrow type, or a pyarrow.Schema.
            dependencies: pip requirements of the version's own environment; the model's framework is added where it is
                missing. Without any, replicas run in the interpreter that registers.
            files: paths beside those of the instance.
            metadata: texts of your own. ``aliases``: point to this version from now on. ``stage``: a word.
            image, model_image: a :class:`sluice.Image` that is built for the version, or the name of one built elsewhere.
            handler: ``module.attribute`` in the image, served by Sluice's entrypoint.
            pin_dependencies: requirements without a version get the one that is installed here.
            allow_pickle: False refuses models that only pickle can save.

        Raises:
            DeclarationError: the model, a schema or an option cannot be used; the message says why, and what to do.
            ServerError, ConnectionError.
        """
        inputs, outputs = schema_fields(input_schema, "input_schema"), schema_fields(output_schema, "output_schema")
        if image is not None and model_image is not None:
            raise DeclarationError("image and model_image are both given; give one of them")
        common = {
            "inputs": inputs,
            "outputs": outputs,
            "metadata": _texts("metadata", metadata or {}),
            "stage": stage,
            "aliases": list(aliases),
            "image": image_json(self._transport, image if image is not None else model_image),
        }
        if model is None and common["image"] is not None:
            stored = uploaded(self._transport, walked_files(files))
            loader = None if handler is None else {"version": LOADER_VERSION, "handler": handler}
            return self._register(name, {**common, "files": stored, "loader": loader})
        if handler is not None:
            raise DeclarationError("handler names a function in an image; it goes with image or model_image, and without model")
        options = PackageOptions(inputs, outputs, dependencies, files, pin_dependencies, allow_pickle)
        with packaged(model, options) as package:
            return self._register(name, {**common, **_package_json(self._transport, package)})

    def import_model(
        self,
        project: str,
        name: str,
        summary: str = "",
        version: str | None = None,
        task_type: str | None = None,
        class_labels: Any = None,
        *,
        archive: StrPath | None = None,
        folder: StrPath | None = None,
        input_schema: Any = None,
        output_schema: Any = None,
        metadata: Mapping[str, str] | None = None,
        aliases: Iterable[str] = (),
        stage: str | None = None,
    ) -> ModelVersion:
        """Makes the next version of a model from files that an inference engine reads; deploy it with ``engine_selector``.

        Args:
            summary, version, task_type: texts for people and the engine; the version's number is told apart from ``version``.
            class_labels: a list of labels, or label → index.
            archive, folder: one of them: a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz, or a folder. The paths in it are those that
                the engine finds below its model directory.
            input_schema, output_schema: as of :meth:`register_model_version`. Without the one any columns are taken, without the
                other each row's answer is JSON.

        Raises:
            DeclarationError: ArchiveError for an archive that leaves its folder, links, or unpacks to too much.
            ServerError, ConnectionError.
        """
        body = {
            "import": import_json(project, summary, version, task_type, class_labels),
            "inputs": [] if input_schema is None else schema_fields(input_schema, "input_schema"),
            "outputs": [] if output_schema is None else schema_fields(output_schema, "output_schema"),
            "metadata": _texts("metadata", metadata or {}),
            "stage": stage,
            "aliases": list(aliases),
        }
        with imported_files(archive, folder) as files:
            return self._register(name, {**body, "files": uploaded(self._transport, files)})

    def _register(self, name: str, body: dict[str, Any]) -> ModelVersion:
        answer = self._json("POST", f"{_model(name)}/versions", body, {"idempotency-key": uuid.uuid4().hex})
        return ModelVersion.of(answer)

    def models(self) -> list[Model]:
        return [Model.of(one) for one in self._pages("/v1/models", "models", "name")]

    def model(self, name: str) -> Model:
        return Model.of(self._json("GET", _model(name)))

    def describe_model(self, name: str, description: str) -> Model:
        return Model.of(self._json("PATCH", _model(name), {"description": description}))

    def versions(self, name: str) -> list[ModelVersion]:
        """The newest first."""
        return [ModelVersion.of(one) for one in self._pages(f"{_model(name)}/versions", "versions", "version")]

    def version(self, name: str, version: int | str = "latest") -> ModelVersion:
        """By number, alias, or ``latest``."""
        return ModelVersion.of(self._json("GET", _version(name, version)))

    def compare(self, name: str, from_version: int | str, to_version: int | str) -> Comparison:
        query = urlencode({"from": from_version, "to": to_version})
        return Comparison.of(self._json("GET", f"{_model(name)}/compare?{query}"))

    def set_alias(self, name: str, alias: str, version: int) -> Model:
        """Points the alias to the version, wherever it pointed before. Groups that run it are not changed: deploy again."""
        return Model.of(self._json("PUT", f"{_model(name)}/aliases/{_quoted(alias)}", {"version": version}))

    def delete_alias(self, name: str, alias: str) -> Model:
        return Model.of(self._json("DELETE", f"{_model(name)}/aliases/{_quoted(alias)}"))

    def set_stage(self, name: str, version: int | str, stage: str | None) -> ModelVersion:
        return ModelVersion.of(self._json("PATCH", _version(name, version), {"stage": stage}))

    def set_metadata(self, name: str, version: int | str, metadata: Mapping[str, str]) -> ModelVersion:
        """In place of what there was."""
        return ModelVersion.of(self._json("PATCH", _version(name, version), {"metadata": _texts("metadata", metadata)}))

    def delete_version(self, name: str, version: int | str) -> None:
        """Raises ServerError ``model_deployed`` while a scaling group runs it."""
        self._transport.request("DELETE", _version(name, version))

    def delete_model(self, name: str) -> None:
        """All its versions. Raises ServerError ``model_deployed`` while a scaling group runs one."""
        self._transport.request("DELETE", _model(name))

    # Scaling groups

    def deploy_model_version_to_scaling_group(
        self,
        name: str,
        *,
        model_name: str,
        model_version: int | str | None = None,
        scaling: AutoScalingSpec | None = None,
        resources: ScalingGroupResourceRequest | None = None,
        env_vars: Mapping[str, str] | None = None,
        engine_selector: EngineSelector | Mapping[str, Any] | None = None,
        predictor_env_var: Mapping[str, Any] | None = None,
        backend: str | None = None,
        image: Any = None,
        handler: str | None = None,
        on_startup: str | None = None,
        entrypoint: Iterable[str] | None = None,
        port: int | None = None,
        skip_upload_to_volumes: bool = False,
        max_batching_size: int | None = None,
        max_buffer_duration: int | None = None,
        max_batch_bytes: int | None = None,
        retries: Any = None,
        isolation: str | None = None,
        call_timeout: float | None = None,
        task: str | None = None,
        inference_store: InferenceStore | Mapping[str, Any] | bool | None = None,
        ready_timeout: float | None = None,
        wait_ready: bool = True,
        timeout: float = READY_TIMEOUT_S,
    ) -> ScalingGroup:
        """Runs a model version as the function ``model.NAME``, or updates the group that does: new replicas are ready before the
        old ones go, and a version that does not become ready is taken back.

        Args:
            model_version: a number or an alias; by default the latest.
            scaling, resources, env_vars: replicas, what each of them needs, and its environment variables.
            engine_selector: the inference engine that serves it, as ``{"project_name": "vision", "engine_name": "onnx"}``;
                ``predictor_env_var``: variables of its schema.
            backend: process, container or kubernetes; by default the server's choice.
            image, handler, on_startup, entrypoint, port: of a container; they win over what the version says.
            skip_upload_to_volumes: the replicas do not get the version's files.
            max_batching_size, max_buffer_duration, max_batch_bytes, retries, isolation, call_timeout, task: as of a function.
            inference_store: keeps a sample of rows and answers, for :meth:`inference_table` and SQL: an
                :class:`sluice.InferenceStore`, a dict of its members, or True for all rows, kept for a week.
            ready_timeout: seconds after which the server gives an update up; a first version goes on starting.
            wait_ready: wait for the group to serve this version, for ``timeout`` seconds.

        Raises:
            DeploymentError: it did not become ready; with the reason.
            DeclarationError, ServerError, ConnectionError.
        """
        given = dict(locals())
        given["image"] = image_json(self._transport, image)
        body = deployment_json(given)
        if handler is None and (registered := self._image_handler(model_name, model_version)) is not None:
            body["handler"] = registered
        group = ScalingGroup.of(self._json("PUT", _group(name), body))
        return self.wait_ready(name, timeout, since=group) if wait_ready else group

    def _image_handler(self, model: str, version: int | str | None) -> str | None:
        """The handler in its image, with which a version was registered."""
        document = self._json("GET", _version(model, "latest" if version is None else version))
        return None if document.get("image") is None else (document.get("loader") or {}).get("handler")

    def scaling_groups(self) -> list[ScalingGroup]:
        """All of them, by name."""
        return [ScalingGroup.of(one) for one in self._pages("/v1/scaling-groups", "scaling_groups", "name")]

    def scaling_group(self, name: str) -> ScalingGroup:
        return ScalingGroup.of(self._json("GET", _group(name)))

    def scale(self, name: str, scaling: AutoScalingSpec) -> ScalingGroup:
        """Changes how many replicas there may be; none is started again for it."""
        if not isinstance(scaling, AutoScalingSpec):
            raise DeclarationError(f"scaling is {scaling!r}; it takes a sluice.AutoScalingSpec")
        return ScalingGroup.of(self._json("PATCH", _group(name), {"scaling": scaling.to_json()}))

    def rollback(self, name: str, *, wait_ready: bool = True, timeout: float = READY_TIMEOUT_S) -> ScalingGroup:
        """Back to the version before. Raises ServerError ``no_earlier_version``."""
        answer = self._transport.request("POST", f"{_group(name)}/rollback", is_safe=False)
        group = ScalingGroup.of(answer.json())
        return self.wait_ready(name, timeout, since=group) if wait_ready else group

    def logs(self, name: str, limit: int = 200) -> list[dict[str, Any]]:
        """What replicas printed, the oldest first: ``{"at", "replica", "stream", "text"}``."""
        function = _quoted(f"model.{name}")
        return list(self._json("GET", f"/v1/functions/{function}/logs?limit={limit}")["lines"])

    def delete_scaling_group(self, name: str, *, force: bool = False) -> None:
        """Raises ServerError ``function_busy`` while calls are unfinished; ``force`` cancels them."""
        self._transport.request("DELETE", f"{_group(name)}{'?force=true' if force else ''}")

    # What groups were asked and answered

    def inference_files(self, group: str, start: When = None, end: When = None) -> Iterator[InferenceFile]:
        """The Parquet files with rows of a time, by their oldest row, as they are listed; each is an artifact.

        Args and errors are those of :meth:`inference_table`.
        """
        return self._inferences(group, start, end).listed()

    def inference_table(self, group: str, start: When = None, end: When = None, limit: int | None = None) -> pa.Table:
        """Rows that a group with an inference store answered, with their answers: a sample, file by file, by time but for rows
        that several workers answered at once.

        Args:
            start, end: rows from ``start`` up to, and without, ``end``: datetimes, or ISO texts as ``"2026-11-01"``; UTC where
                they name no zone. None: as far as there are rows.
            limit: rows at most.

        Returns:
            One row a row of a call, with ``time`` (timestamp[ms, UTC], when it was settled), ``call_id``, ``row`` (of the call),
            ``model``, ``model_version``, ``function_version``, ``attempt``, ``batch_rows``, ``handler_ms`` (of its batch),
            ``status`` (``ok`` or ``failed``), ``error_code``, ``error_message``, ``input`` (a struct of the input columns) and
            ``output``. Columns that only some versions have are null in the rows of the others. Without rows it is empty.

        Raises:
            ServerError: ``scaling_group_not_found``; ``forbidden`` for a key without the scope ``deploy``, since the rows are
                those of all callers.
            MixedColumnsError: versions whose columns have types that do not go together answered in that time.
            FileGoneError: the retention of a file ended meanwhile. DeclarationError, ConnectionError.
        """
        return self._inferences(group, start, end).table(options.optional_integer("limit", limit, 1, 2**53))

    def inference_batches(
        self, group: str, start: When = None, end: When = None, limit: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """As :meth:`inference_table`, batch by batch: a few files at a time are on this machine, whatever the time spans. The
        schema changes where another version with other columns answered."""
        return self._inferences(group, start, end).batches(options.optional_integer("limit", limit, 1, 2**53))

    def _inferences(self, group: str, start: When, end: When) -> InferenceFiles:
        return InferenceFiles(self._transport, group, Span.of(start, end))

    def set_drift(
        self, group: str, *, reference_start: When, reference_end: When, window: timedelta | float = timedelta(days=1)
    ) -> Drift:
        """Compares, every minute from now on, the inference store's rows of a moving window that ends now with those of a time
        that stands. Rows of the reference are kept while it is set, whatever the retention.

        Args:
            reference_start, reference_end: as ``start`` and ``end`` of :meth:`inference_table`; the time has passed and has rows.
            window: a timedelta, or seconds, of a minute at least.

        Returns:
            The settings; the figures are there when they were computed: ask :meth:`drift`.

        Raises ServerError ``scaling_group_not_found``, ``invalid_drift``; DeclarationError, ConnectionError.
        """
        body = drift_json(reference_start, reference_end, window)
        return Drift.of(self._json("PUT", f"{_group(group)}/drift", body))

    def drift(self, group: str) -> Drift:
        """The settings and the last figures. Raises ServerError ``drift_not_found`` where none are set."""
        return Drift.of(self._json("GET", f"{_group(group)}/drift"))

    def end_drift(self, group: str) -> None:
        """Stops comparing; the reference's files go as their retention says. Raises ServerError ``drift_not_found``."""
        self._transport.request("DELETE", f"{_group(group)}/drift")

    def function(self, name: str, output_type: Any = None, is_async: bool = False) -> RemoteFunction:
        """The function of a group, to be called: ``client.function("house-price-sg")``, or ``"model.house-price-sg"``.

        A group whose name begins with ``model.`` goes by its function's name alone.
        """
        return self._remote.function(name if name.startswith(GROUP_PREFIX) else f"{GROUP_PREFIX}{name}", output_type, is_async)

    def wait_ready(self, name: str, timeout: float = READY_TIMEOUT_S, *, since: ScalingGroup | None = None) -> ScalingGroup:
        """Waits until the group serves the version that was deployed last.

        Raises DeploymentError when it fails, is taken back, or is not ready after ``timeout`` seconds.
        """
        group = since = since or self.scaling_group(name)
        deadline = time.monotonic() + timeout
        pause_s = POLL_FIRST_S
        while True:
            taken_back = _rolled_back(group, since)
            if taken_back is not None:
                raise DeploymentError(name, "rolled_back", taken_back)
            if group.state == "failed":
                raise DeploymentError(name, "failed", group.reason or "no replica says why")
            if group.updating_to is None and group.state in ("ready", "idle"):
                return group
            if time.monotonic() + pause_s > deadline:
                reason = f"not ready after {timeout:g} s; {group.reason or 'it goes on starting'}{self._printed_last(name)}"
                raise DeploymentError(name, group.state, reason)
            time.sleep(pause_s)
            pause_s = min(POLL_LONGEST_S, pause_s * 1.5)
            group = self.scaling_group(name)

    def _printed_last(self, name: str) -> str:
        """An installation of minutes says how far it is."""
        lines = self.logs(name, 1)
        return f"; it printed last: {lines[-1]['text']}" if lines else ""

    # Requests

    def _json(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        sent = {**(_JSON if body is not None else {}), **(headers or {})}
        data = None if body is None else json.dumps(body).encode()
        return self._transport.request(method, path, headers=sent, body=data).json()

    def _pages(self, path: str, member: str, key: str) -> Iterable[dict[str, Any]]:
        after = None
        while True:
            query = urlencode({"limit": PAGE, **({} if after is None else {"after": after})})
            page = self._json("GET", f"{path}?{query}")[member]
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1][key]


def _package_json(transport: Transport, package: Package) -> dict[str, Any]:
    return {
        "handler": package.handler,
        "source": package.source,
        "files": uploaded(transport, package.files),
        "loader": package.loader,
        "dependencies": package.dependencies,
        "interpreter": package.interpreter,
    }


def _rolled_back(group: ScalingGroup, since: ScalingGroup) -> str | None:
    """Why the update was taken back that was under way then; None: it was not."""
    told = [event for event in group.events if event.kind == "rolled_back" and event not in since.events]
    return told[-1].text if told else None


def _texts(option: str, given: Mapping[str, str]) -> dict[str, str]:
    for name, value in given.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise DeclarationError(f"{option}[{name!r}] is {value!r}; it takes texts")
    return dict(given)


def _quoted(text: str) -> str:
    # A URL takes the last two for steps, also where they are quoted.
    if not isinstance(text, str) or text in ("", ".", ".."):
        raise DeclarationError(f"a name is {text!r}; it takes a text that begins with a letter")
    return quote(text, safe="")


def _model(name: str) -> str:
    return f"/v1/models/{_quoted(name)}"


def _version(name: str, version: int | str) -> str:
    return f"{_model(name)}/versions/{_quoted(str(version))}"


def _group(name: str) -> str:
    return f"/v1/scaling-groups/{_quoted(name)}"
