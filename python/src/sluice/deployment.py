"""Deploying from Python what ``sluice deploy FILE`` deploys from a shell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sluice.declaration import Function
from sluice.errors import DeclarationError
from sluice.remote import Remote

Target = str | os.PathLike[str] | Function[..., Any]


def deploy(
    target: Target | Sequence[Target],
    *,
    url: str | None = None,
    api_key: str | None = None,
    isolated: bool = False,
) -> list[dict[str, Any]]:
    """Registers every function of a file, or the declared functions that are given, in the interpreter that runs this.

    Args:
        target: a path, or a function that ``@sluice.function`` made, or several of these.
        isolated: the function runs in a virtual environment of its own, made from its image's pip steps.

    Returns:
        The functions as docs/API.md shows them.

    Raises:
        DeclarationError: the file cannot be imported or declares nothing.
        ServerError, ConnectionError: the server refused, or is not there.
    """
    if imported_by_us() is not None:
        raise DeclarationError(
            f"sluice.deploy was called while {imported_by_us()} imports the file, which would deploy for ever; "
            'put it under `if __name__ == "__main__":`'
        )
    remote = Remote(url, api_key)
    return [remote.deploy(_isolated(spec) if isolated else spec) for spec in _specs(target)]


def imported_by_us() -> str | None:
    """The listing or the worker whose process this is; None in every other."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = spec.name if spec is not None else ""
    return name if name == "sluice.manifest" or name.startswith(("sluice.worker", "sluice.remote_call")) else None


def _specs(target: Any) -> list[dict[str, Any]]:
    if isinstance(target, list | tuple):
        return [spec for one in target for spec in _specs(one)]
    if isinstance(target, Function):
        if target.module_file is None:
            raise DeclarationError(f"function {target.name} was declared outside of a file, so no worker could import it")
        return [spec for spec in _file_specs(target.module_file) if spec["name"] == target.name]
    return _file_specs(os.fspath(target))


def _file_specs(file: str) -> list[dict[str, Any]]:
    """A process of its own imports the file, so that this one's modules neither shape the listing nor are touched."""
    package = str(Path(__file__).parent.parent)
    path = os.pathsep.join(part for part in (package, os.environ.get("PYTHONPATH")) if part)
    run = subprocess.run(
        [sys.executable, "-m", "sluice.manifest", os.path.abspath(file)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    try:
        document = json.loads(run.stdout)
    except ValueError:
        raise DeclarationError(f"{file} could not be read: {run.stderr.strip() or 'it ended without a word'}") from None
    if "error" in document:
        error = document["error"]
        is_ours = error["kind"] == DeclarationError.__name__
        text = error["message"] if is_ours else f"{file} could not be imported:\n{error['traceback']}"
        raise DeclarationError(text)
    return list(document["functions"])


def _isolated(spec: dict[str, Any]) -> dict[str, Any]:
    return {**spec, "environment": {**spec["environment"], "isolated": True}}
