"""What pip is to install where an extra is missing. The name ``sluice`` belongs to another project on PyPI."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
"""The directory of the project, in a checkout."""


def requirement(extra: str) -> str:
    """``'/path/to/sluice/python[sql]'``, quoted for a shell; of a package that is no checkout what the extra consists of."""
    if (SOURCE / "pyproject.toml").is_file():
        return f"'{SOURCE}[{extra}]'"
    try:
        required = importlib.metadata.requires("sluice") or []
    except importlib.metadata.PackageNotFoundError:
        required = []
    marked = (line.partition(";") for line in required)
    names = [f"'{name.strip()}'" for name, _, marker in marked if f"'{extra}'" in marker.replace('"', "'")]
    return " ".join(names) or f"'/path/to/sluice/python[{extra}]'"
