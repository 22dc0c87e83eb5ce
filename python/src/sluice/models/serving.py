"""A model version in its replica: the class is imported, its files are found, the model restored, batches predicted.

``load`` is what handler processes and ``sluice-remote-call --model-directory`` share.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from sluice.arrow_types import field_of
from sluice.artifacts import digest_of
from sluice.declaration import Function, Plan
from sluice.errors import DeclarationError
from sluice.hints import Parameter
from sluice.models import coercion
from sluice.models.construction import made_again
from sluice.models.frame import DataFrame
from sluice.models.handler import default_load_model, entry_of, is_handler, model_handler
from sluice.models.packaging import attribute_of
from sluice.models.registration import LOADER_VERSION
from sluice.models.schema import Field
from sluice.models.serializers import restore
from sluice.worker.outputs import OutputError

__all__ = ["ServedModel", "load", "load_function"]


class ServedModel:
    """One loaded model version. ``outputs`` is None where nobody has said what the columns are called."""

    def __init__(
        self, handler: Any, inputs: list[str] | None, outputs: list[Field] | None, output_type: pa.DataType, is_bare: bool
    ):
        self.handler = handler
        self._inputs = inputs
        self._outputs = outputs
        self._type = output_type
        self._is_bare = is_bare
        self._entry = getattr(handler, entry_of(type(handler)))
        self._takes_batch = entry_of(type(handler)) == "handler"

    def predict_batch(self, table: pa.Table) -> pa.Array:
        """One entry a row: the output column, or a struct of several. ``table`` has the input columns, in any order.

        Raises PredictionError when the answer is not what the output schema says, and what ``predict`` raises.
        """
        if table.num_rows == 0:
            return pa.array([], self._type)
        if self._inputs is not None and table.column_names != self._inputs:
            table = table.select(self._inputs)
        returned = self._entry(_record_batch(table) if self._takes_batch else DataFrame(table))
        if hasattr(returned, "__await__"):
            raise coercion.PredictionError("predict is async; a model answers at once, so make it a plain method")
        found = coercion.coerced(returned, self._outputs, table.num_rows, by_position=self._is_bare)
        array = coercion.result_array(found)
        if self._outputs is None and array.type != self._type:
            try:
                return array.cast(self._type)
            except pa.ArrowException as error:
                raise OutputError(f"predict returned {array.type}, which does not cast to {self._type}: {error}") from None
        return array


def _record_batch(table: pa.Table) -> pa.RecordBatch:
    return table.combine_chunks().to_batches()[0]


def load(spec: Mapping[str, Any], directory: str | Path, artifacts: str | Path) -> ServedModel:
    """Imports the class and runs its ``load_model``.

    Args:
        spec: the SPEC of the function; of it ``handler``, ``model``, ``inputs`` and ``output`` are read.
        directory: where the version's source lies.
        artifacts: where its files lie.

    Raises:
        DeclarationError: there is no such class, or files are missing or changed. And what ``load_model`` raises.
    """
    binding = spec.get("model") or {}
    loader = binding.get("loader") or {}
    if loader.get("version", LOADER_VERSION) > LOADER_VERSION:
        raise DeclarationError(
            f"the model was registered by a newer sluice (loader {loader['version']}); update sluice where replicas run"
        )
    cls = _class_of(spec["handler"], loader.get("module"), Path(directory).absolute())
    root = Path(artifacts).absolute()
    handler = _instance(cls, loader, root, binding)
    outputs = loader.get("outputs")
    if outputs is None:
        outputs = _struct_fields(spec["output"]["type"])
    if loader.get("is_bare"):
        handler._sluice_outputs = outputs
    handler.load_model()
    kind = field_of({"name": "result", "type": spec["output"]["type"], "nullable": True}).type
    names = [one["name"] for one in spec["inputs"]] if spec.get("inputs") else None
    return ServedModel(handler, names, outputs, kind, bool(loader.get("is_bare")))


def load_function(spec: Mapping[str, Any], directory: str | Path, artifacts: str | Path) -> Function[..., Any]:
    """The model as a function of one table, which a handler process runs as any other."""
    served = load(spec, directory, artifacts)
    body = served.predict_batch
    plan = Plan("table", [Parameter("table", "Table", "any", True)], None, body, (None, None))
    return Function(body, {"name": spec["name"]}, plan, None)


def _restored(saved: Mapping[str, Any], root: Path, binding: Mapping[str, Any]) -> Any:
    """The model object, of a file that has the digest that was registered: reading it twice takes less than loading it."""
    path = saved.get("path", "")
    expected = next((one["digest"] for one in binding.get("files") or () if one["path"] == path), None)
    if expected is not None and (found := digest_of(root / path)) != expected:
        raise DeclarationError(
            f"the file {path} has the digest {found}, and {expected} was registered: it was changed, and is not loaded; "
            "register the model again"
        )
    return restore(saved, root, is_replica=True)


def _struct_fields(kind: Any) -> list[Field] | None:
    return kind.get("struct") if isinstance(kind, dict) else None


def _class_of(place: Mapping[str, str], name: str | None, directory: Path) -> type:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))
    if name is not None:
        module = import_module(name)
    else:
        from sluice.source import load as load_file

        module = load_file(directory / place["file"])
    found = attribute_of(module, place["attribute"])
    if not isinstance(found, type):
        raise DeclarationError(f"{place['attribute']} of {place['file']} is {found!r}, not a class with @sluice.model_handler")
    return found if is_handler(found) else model_handler(found)


def _names(loader: Mapping[str, Any], binding: Mapping[str, Any]) -> list[str]:
    """The names of the user's files: as registered, else the first parts of all paths."""
    if "files" in loader:
        return list(loader["files"])
    return sorted({one["path"].partition("/")[0] for one in binding.get("files") or ()})


def _instance(cls: type, loader: Mapping[str, Any], root: Path, binding: Mapping[str, Any]) -> Any:
    handler = made_again(cls, loader)
    handler.model = None
    handler.artifact_path = root
    handler.files = MappingProxyType({name: root / name for name in _names(loader, binding)})
    saved = loader.get("model")
    if saved is not None:
        handler.__dict__["_sluice_restore"] = lambda: _restored(saved, root, binding)
    if not callable(getattr(handler, "load_model", None)):
        handler.load_model = lambda: default_load_model(handler)
    return handler
