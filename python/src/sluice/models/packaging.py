"""The source of a model version: the class's module, the modules of what the model object is made of, and what they import
from beside themselves."""

from __future__ import annotations

import inspect
import sys
import sysconfig
from pathlib import Path
from typing import Any

from sluice.errors import DeclarationError
from sluice.models.slicing import script_directory, sliced
from sluice.source import check_name, encoded, files_below, imported_by

_FOREIGN = {"site-packages", "dist-packages", "node_modules"}
_PACKAGE = Path(__file__).parents[1]
_STANDARD = Path(sysconfig.get_path("stdlib"))
_GENERATED = "sluice_handler"


class SourceFiles:
    """Collects files for one version. ``ship`` answers the name under which a replica imports a class's module."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[str, Path | None]] = {}
        self._shipped: set[Path] = set()
        self._sliced: list[type] = []

    def ship(self, kind: type) -> str | None:
        """None: the class is installed, or nobody could import it there."""
        module = kind.__module__
        if module == "__main__" or "<locals>" in kind.__qualname__:
            return None
        file = getattr(sys.modules.get(module), "__file__", None)
        if file is None or not is_local(Path(file)):
            return None
        path = Path(file).absolute()
        directory = root_of(path, module)
        if directory is None:
            return None
        self._add(path, directory)
        return module

    def handler(self, cls: type) -> dict[str, str]:
        """Ships the class and says where it is: ``{"file", "attribute", "module"}``."""
        if "<locals>" in cls.__qualname__:
            raise DeclarationError(
                f"{cls.__qualname__} is defined inside of a function, where a replica cannot reach it; move it to the top level"
            )
        if cls.__module__ == "__main__":
            return self._slice(cls)
        file = inspect.getsourcefile(cls) if cls.__module__ in sys.modules else None
        if file is None:
            raise DeclarationError(
                f"the source of {cls.__module__}.{cls.__qualname__} cannot be found; write it into a file and import it"
            )
        path = Path(file).absolute()
        if not is_local(path):
            return self.generated(f"from {cls.__module__} import {cls.__qualname__.partition('.')[0]}\n", cls.__qualname__)
        directory = root_of(path, cls.__module__)
        self._add(path, path.parent if directory is None else directory)
        relative = path.name if directory is None else path.relative_to(directory).as_posix()
        return {"file": relative, "attribute": cls.__qualname__, **({} if directory is None else {"module": cls.__module__})}

    def generated(self, text: str, attribute: str, name: str = _GENERATED) -> dict[str, str]:
        self._put(f"{name}.py", text, None)
        return {"file": f"{name}.py", "attribute": attribute, "module": name}

    def to_json(self) -> list[dict[str, str]]:
        return [{"path": path, "content": content} for path, (content, _) in sorted(self._files.items())]

    def _slice(self, cls: type) -> dict[str, str]:
        text = sliced([cls])
        directory = script_directory()
        file = getattr(sys.modules["__main__"], "__file__", None)
        stem = Path(file).stem if file else ""
        name = stem if stem.isidentifier() and stem != "__main__" and _is_free(stem) else _GENERATED
        start = [path for path in imported_by(text, directory, directory) if is_local(path)]
        for path in start:
            self._add(path, directory)
        return self.generated(text, cls.__qualname__, name)

    def _add(self, path: Path, directory: Path) -> None:
        if path in self._shipped:
            return
        self._shipped.add(path)
        packages = [parent / "__init__.py" for parent in path.parents if parent != directory and parent.is_relative_to(directory)]
        start = {path, *(file for file in packages if file.is_file())}
        for one in files_below(start, directory, path.name):
            self._put(one["path"], one["content"], directory / one["path"])

    def _put(self, name: str, content: str, origin: Path | None) -> None:
        text = encoded(content.encode()) if origin is None else content
        there = self._files.get(name)
        if there is not None and there[0] != text:
            raise DeclarationError(
                f"two sources are named {name}: {there[1] or 'a generated one'} and {origin or 'a generated one'}; rename one"
            )
        self._files[name] = (text, origin)


def _is_free(stem: str) -> bool:
    try:
        check_name(Path(f"{stem}.py"))
    except DeclarationError:
        return False
    return True


def is_local(path: Path) -> bool:
    """Of the user's own project: neither installed nor of Python nor of this package."""
    path = path.absolute()
    if any(part in _FOREIGN for part in path.parts) or path.suffix != ".py":
        return False
    return not path.is_relative_to(_PACKAGE) and not path.is_relative_to(_STANDARD)


def root_of(path: Path, module: str) -> Path | None:
    """The folder from which the module has its name; None where the name does not follow from the path."""
    parts = module.split(".")
    below = path.with_suffix("")
    if below.name == "__init__":
        below = below.parent
    if list(below.parts[-len(parts) :]) != parts:
        return None
    return below.parents[len(parts) - 1]


def attribute_of(module: Any, attribute: str) -> Any:
    found = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    return found
