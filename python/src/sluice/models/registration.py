"""A model object or a handler as what is registered: source, files, and the loader's JSON (docs/decisions/0012-models.md)."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sluice.errors import DeclarationError
from sluice.models import dependencies as requirements
from sluice.models.bare import BareModel
from sluice.models.construction import arguments_text, attributes_text
from sluice.models.handler import entry_of, file_mapping, is_handler, registered_model
from sluice.models.packaging import SourceFiles
from sluice.models.schema import Field
from sluice.models.serializers import save
from sluice.models.serializers.saved import SaveRequest

LOADER_VERSION = 1
FILES_MAX = 10_000


@dataclass(frozen=True)
class Package:
    """``files``: path in the model version → file on this machine. The other members are those of a REGISTRATION."""

    handler: dict[str, str]
    source: list[dict[str, str]]
    files: dict[str, Path]
    loader: dict[str, Any]
    dependencies: list[str]
    interpreter: str


@dataclass(frozen=True)
class PackageOptions:
    inputs: list[Field]
    outputs: list[Field]
    dependencies: Any = None
    files: Any = ()
    pin_dependencies: bool = True
    allow_pickle: bool = True


@contextmanager
def packaged(model: Any, options: PackageOptions):
    """A :class:`Package`; the files that serializers wrote are there until the block ends."""
    with tempfile.TemporaryDirectory(prefix="sluice-model-") as directory:
        yield _package(model, options, Path(directory))


def _package(model: Any, options: PackageOptions, directory: Path) -> Package:
    handler = _handler_of(model)
    source = SourceFiles()
    is_bare = type(handler) is BareModel
    if is_bare:
        place = source.generated("from sluice.models.bare import BareModel\n", "BareModel", "sluice_bare_model")
    else:
        place = source.handler(type(handler))
    given = _user_files(handler, options.files)
    files = _walked(given)
    loader: dict[str, Any] = {
        "version": LOADER_VERSION,
        "module": place.get("module"),
        "is_bare": is_bare,
        "outputs": options.outputs,
        "files": sorted(given),
        "attributes": attributes_text(handler),
        "arguments": arguments_text(handler, registered_model(handler)),
        "model": None,
    }
    needs: tuple[str, ...] = ()
    object_ = registered_model(handler)
    if object_ is not None:
        folder = next(name for name in ("model", "sluice-model", "sluice-model-object") if name not in given)
        request = SaveRequest(directory, options.inputs, options.outputs, is_bare, source.ship, options.allow_pickle)
        saved = save(object_, request)
        files |= {f"{folder}/{name}": path for name, path in saved.files.items()}
        loader["model"] = saved.to_json(folder)
        needs = saved.needs
    if len(files) > FILES_MAX:
        raise DeclarationError(f"the model has {len(files)} files; a version takes {FILES_MAX}, so pack them into archives")
    return Package(
        handler={"file": place["file"], "attribute": place["attribute"]},
        source=source.to_json(),
        files=files,
        loader=loader,
        dependencies=requirements.environment(options.dependencies, needs, options.pin_dependencies),
        interpreter=os.path.abspath(sys.executable),
    )


def _handler_of(model: Any) -> Any:
    if isinstance(model, type):
        call = f"{model.__name__}(model=…)" if is_handler(model) else f"{model.__name__}(…), trained"
        raise DeclarationError(f"model is the class {model.__name__}; make it: model={call}")
    if is_handler(model):
        entry_of(type(model))
        return model
    if model is None:
        raise DeclarationError("model is None; hand over a model object, or an instance of a class with @sluice.model_handler")
    return BareModel(model=model)  # type: ignore[call-arg]


def _user_files(handler: Any, more: Any) -> dict[str, Path]:
    """The files of the instance and of the registration together."""
    files = dict(handler.files)
    for name, path in file_mapping(more or ()).items():
        if name in files and files[name] != path:
            raise DeclarationError(f"files names {name} twice: {files[name]} and {path}; give each a name of its own")
        files[name] = path
    _check_files(files)
    return files


def walked_files(files: Any) -> dict[str, Path]:
    """Path in the version → file, of ``files=`` without a handler."""
    given = dict(file_mapping(files or ()))
    _check_files(given)
    return _walked(given)


def _check_files(files: Mapping[str, Path]) -> None:
    for name, path in files.items():
        if not path.exists():
            raise DeclarationError(f"files has {path}, which is not there")
        if not name or name in (".", "..") or "/" in name or "\\" in name:
            raise DeclarationError(f"files names {name!r}; a name has no slashes")


def _walked(given: Mapping[str, Path]) -> dict[str, Path]:
    """Every file, folders with what is below them. A link is followed within its folder, and refused where it leaves it."""
    found: dict[str, Path] = {}
    for name, path in given.items():
        if path.is_file():
            found[name] = path
            continue
        root = path.resolve()
        for inner in sorted(path.rglob("*")):
            if inner.is_symlink() and not inner.resolve().is_relative_to(root):
                raise DeclarationError(
                    f"{inner} is a link to {inner.resolve()}, outside of {path}; copy the file into the folder"
                )
            if inner.is_file():
                found[f"{name}/{inner.relative_to(path).as_posix()}"] = inner
                if len(found) > FILES_MAX:
                    raise DeclarationError(f"{path} has more than {FILES_MAX} files; pack them into an archive")
    return found
