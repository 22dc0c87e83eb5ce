"""The SPEC documents of docs/API.md that a file's functions deploy as."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from sluice.declaration import DECLARED, Function
from sluice.errors import DeclarationError
from sluice.source import check_name, load, source_files


def _attribute(module: dict[str, Any], function: Function[..., Any]) -> str:
    for attribute, value in module.items():
        if value is function:
            return attribute
    raise DeclarationError(
        f"function {function.name} is not an attribute of its module, so a worker could not find it; "
        "give each function a name of its own at the top level of the file"
    )


def spec_of(function: Function[..., Any], module: dict[str, Any], source: list[dict[str, str]], file: str) -> dict[str, Any]:
    environment = {**function.spec["environment"], "interpreter": sys.executable}
    return {
        **function.spec,
        "environment": environment,
        "handler": {"file": file, "attribute": _attribute(module, function)},
        "source": source,
    }


def specs_of_module(module: ModuleType, path: Path) -> list[dict[str, Any]]:
    """The specs of the functions that the file itself declares, in its order."""
    own = [function for function in DECLARED if function.module_file == str(path)]
    if not own:
        imported = sorted(value.name for value in vars(module).values() if isinstance(value, Function))
        hint = f"; it only imports {', '.join(imported)}: deploy the files that declare them" if imported else ""
        raise DeclarationError(f"{path.name} declares no function; decorate one with @sluice.function{hint}")
    names = [function.name for function in own]
    for name in names:
        if names.count(name) > 1:
            raise DeclarationError(f'{path.name} declares "{name}" {names.count(name)} times; give each its own name=')
    source = source_files(path)
    return [spec_of(function, vars(module), source, path.name) for function in own]


def specs_of_file(file: str | Path) -> list[dict[str, Any]]:
    """Imports the file and lists its functions."""
    path = Path(file).absolute()
    if not path.is_file():
        raise DeclarationError(f"{path} is not there; name a Python file")
    if path.suffix != ".py":
        raise DeclarationError(f"{path.name} is no Python file; its name must end in .py")
    check_name(path)
    return specs_of_module(load(path), path)
