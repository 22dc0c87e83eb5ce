"""``@model_handler``: a class that serves a model, at home and in a replica."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from sluice.errors import DeclarationError
from sluice.models.construction import OWN, fields_of, recorded

C = TypeVar("C", bound=type)

ARTIFACT_PATH = Path("/app/artifacts")
"""Where a container has the files of its model version; a replica is told where they really lie."""
_MARK = "__sluice_model_handler__"


def model_handler(cls: C) -> C:
    """Makes a class with ``predict(self, df)`` into a model handler.

    ``df`` is a :class:`sluice.DataFrame`; docs/MODELS.md lists what ``predict`` may return. Beside ``predict`` the class gets

    - ``model``: the object that it was made with; in a replica what :meth:`default_load_model` restored of it;
    - ``files``: basename → Path, of the files that it was made with;
    - ``artifact_path``: the folder that holds all files of the model version;
    - ``load_model()``, which runs once in each replica before the first ``predict``; an override may call
      ``self.default_load_model()`` and go on;
    - a constructor of these three and of the class's own annotated attributes, unless it has a constructor.

    Raises DeclarationError when there is no ``predict``.
    """
    if not isinstance(cls, type):
        raise DeclarationError(f"@model_handler got {cls!r}; it takes a class with a method predict(self, df)")
    entry_of(cls)
    made: Any = cls  # for type checkers, which forbid what a decorator is for
    if made.__init__ is object.__init__:
        made.__init__ = _initialise
    elif made.__init__ is not _initialise:
        made.__init__ = recorded(made.__init__)
    for name, default in (("model", None), ("files", MappingProxyType({})), ("artifact_path", ARTIFACT_PATH)):
        if not hasattr(cls, name):
            setattr(cls, name, default)
    if not callable(getattr(cls, "load_model", None)):
        made.load_model = _load_model
    made.default_load_model = default_load_model
    setattr(cls, _MARK, True)
    return cls


def is_handler(value: Any) -> bool:
    return bool(getattr(value if isinstance(value, type) else type(value), _MARK, False))


def entry_of(cls: type) -> str:
    """``predict``, or ``handler`` of classes that take a RecordBatch."""
    for name in ("predict", "handler"):
        if callable(getattr(cls, name, None)):
            return name
    raise DeclarationError(f"{cls.__qualname__} has no method predict(self, df), so it cannot serve a model")


def _initialise(self: Any, model: Any = None, files: Any = (), artifact_path: Any = ARTIFACT_PATH, **fields: Any) -> None:
    """A handler with a model object, or with files that ``load_model`` reads.

    ``files``: paths of files and folders with different names, or a mapping of name to path.
    """
    known = fields_of(type(self))
    for name in fields:
        if name not in known:
            raise TypeError(f"{type(self).__name__} takes no argument {name!r}; it takes {', '.join([*OWN, *known])}")
    missing = [name for name in known if name not in fields and not hasattr(type(self), name)]
    if missing:
        raise TypeError(f"{type(self).__name__} needs {missing[0]}=, since the attribute has no default")
    self.model = model
    self.files = file_mapping(files)
    self.artifact_path = Path(artifact_path)
    for name, value in fields.items():
        setattr(self, name, value)


def file_mapping(files: Any) -> Mapping[str, Path]:
    """Basename → Path. Raises DeclarationError for two of one name, or for what is no path."""
    if isinstance(files, Mapping):
        return MappingProxyType({str(name): Path(path) for name, path in files.items()})
    if isinstance(files, (str, os.PathLike)) or not isinstance(files, Iterable):
        raise DeclarationError(f"files is {files!r}; it takes a list of paths")
    found: dict[str, Path] = {}
    for given in files:
        if not isinstance(given, (str, os.PathLike)):
            raise DeclarationError(f"files has {given!r}; it takes paths")
        path = Path(given)
        name = path.name or path.absolute().name
        if name in found:
            raise DeclarationError(f"files has {found[name]} and {path}, both named {name}; give each a name of its own")
        found[name] = path
    return MappingProxyType(found)


def default_load_model(self: Any) -> None:
    """Restores ``model`` from the files that the registration wrote; at home, where it is there, nothing happens.

    An ONNX model becomes a session in both cases.
    """
    restore: Callable[[], Any] | None = self.__dict__.get("_sluice_restore")
    if self.model is None and restore is not None:
        self.model = restore()
    elif self.model is not None and "_sluice_model" not in self.__dict__:
        from sluice.models.serializers import opened

        self._sluice_model = self.model
        self.model = opened(self.model)


def registered_model(handler: Any) -> Any:
    """The object that the handler was made with, which loading may have opened."""
    return handler.__dict__.get("_sluice_model", handler.model)


def _load_model(self: Any) -> None:
    self.default_load_model()


class ModelHandler:
    """What :func:`model_handler` adds, as a base class::

        @sluice.model_handler
        class Ranker(sluice.ModelHandler):
            def predict(self, df: sluice.DataFrame) -> dict[str, list[float]]: ...

    For type checkers, which cannot know what a decorator adds.
    """

    model: Any = None
    files: Mapping[str, Path] = MappingProxyType({})
    artifact_path: Path = ARTIFACT_PATH

    if TYPE_CHECKING:

        def __init__(
            self,
            model: Any = None,
            files: Iterable[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]] = (),
            artifact_path: str | os.PathLike[str] = ARTIFACT_PATH,
            **fields: Any,
        ) -> None: ...

        def load_model(self) -> None: ...

        def default_load_model(self) -> None: ...

    else:
        __init__, load_model, default_load_model = _initialise, _load_model, default_load_model
