"""Which files a handler needs: its own and the local modules that it imports from beside itself."""

from __future__ import annotations

import ast
import base64
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from sluice.errors import DeclarationError

FILES_MAX = 1000
SOURCE_BYTES_MAX = 64 * 2**20
"""Code, not weights."""
_FOREIGN = {"site-packages", "dist-packages", "node_modules", "__pycache__"}
_PACKAGE = Path(__file__).parent


_TAKEN = {"sluice", "pyarrow", "numpy", *sys.stdlib_module_names}


def module_name(path: Path) -> str:
    """The name under which a handler file is imported: its stem where that can be imported."""
    stem = path.stem
    return stem if stem.isidentifier() else f"sluice_handler_{''.join(c if c.isalnum() else '_' for c in stem)}"


def check_name(path: Path) -> None:
    """A worker runs in the folder of the source, where such a file would stand before the module of its name."""
    if path.stem in _TAKEN:
        raise DeclarationError(f"{path.name} hides Python's own module {path.stem}; rename the file")


def load(path: Path) -> ModuleType:
    """Imports a handler file as ``import STEM`` beside it would, so that its own modules find the same one."""
    directory = str(path.parent)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    name = module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DeclarationError(f"{path} is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _is_local(path: Path, directory: Path) -> bool:
    """Below the directory, and neither of an environment nor hidden nor ours."""
    if not path.is_relative_to(directory) or path.is_relative_to(_PACKAGE):
        return False
    parts = path.relative_to(directory).parts
    if any(part in _FOREIGN or part.startswith(".") for part in parts):
        return False
    return not any(path.is_relative_to(prefix) for prefix in _prefixes(directory))


def _prefixes(directory: Path) -> Iterator[Path]:
    for prefix in {sys.prefix, sys.base_prefix}:
        if Path(prefix).is_relative_to(directory) and Path(prefix) != directory:
            yield Path(prefix)


def _loaded(directory: Path) -> Iterator[Path]:
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and _is_local(Path(os.path.abspath(file)), directory):
            yield Path(os.path.abspath(file))


def _modules_named(tree: ast.AST, package: Path, directory: Path) -> Iterator[Path]:
    """Where the imports of a file, also those inside of functions, would lie below the directory; without a suffix."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield directory.joinpath(*alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            base = directory if node.level == 0 else package
            for _ in range(node.level - 1):
                base = base.parent
            base = base.joinpath(*(node.module or "").split(".")) if node.module else base
            yield base
            yield from (base / alias.name for alias in node.names if alias.name != "*")


def _imported(path: Path, directory: Path) -> Iterator[Path]:
    yield from imported_by(path.read_bytes(), path.parent, directory)


def imported_by(code: str | bytes, package: Path, directory: Path) -> Iterator[Path]:
    """The files below the directory that Python code in the folder ``package`` imports, also inside of functions."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return
    for named in _modules_named(tree, package, directory):
        if not named.is_relative_to(directory):
            continue
        above = [named, *(parent for parent in named.parents if parent.is_relative_to(directory) and parent != directory)]
        for module in above:
            for file in (module.parent / f"{module.name}.py", module / "__init__.py"):
                if file.is_file() and _is_local(file, directory):
                    yield file


def source_files(path: Path) -> list[dict[str, str]]:
    """``[{"path", "content"}]`` of the file and its local modules; content in base64, paths from the file's directory.

    Raises DeclarationError above 1,000 files or 64 MiB.
    """
    return files_below({path, *_loaded(path.parent)}, path.parent, path.name)


def files_below(start: Iterable[Path], directory: Path, name: str) -> list[dict[str, str]]:
    """As :func:`source_files`, of the files ``start`` and what they import from below the directory. ``name`` is for messages."""
    waiting = list(start)
    found: set[Path] = set()
    while waiting:
        file = waiting.pop()
        found.add(file)
        if file.suffix == ".py":
            waiting.extend(named for named in _imported(file, directory) if named not in found)
        if len(found) > FILES_MAX:
            raise DeclarationError(
                f"{name} imports more than {FILES_MAX} files from below {directory}; install them as a package"
            )
    size = 0
    files = []
    for file in sorted(found):
        content = file.read_bytes()
        size += len(content)
        if size > SOURCE_BYTES_MAX:
            raise DeclarationError(f"the source of {name} has more than {SOURCE_BYTES_MAX} bytes; keep data out of it")
        if file.parent == directory:
            check_name(file)
        files.append({"path": file.relative_to(directory).as_posix(), "content": encoded(content)})
    return files


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
