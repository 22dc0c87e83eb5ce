"""What a registration asks of a serializer, and what it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sluice.models.schema import Field


@dataclass(frozen=True)
class SaveRequest:
    """``directory``: empty, the serializer's to write to. ``ship``: sends a class's module along as source and says under which
    name a replica imports it; None when it cannot. ``is_bare``: no class of the user's calls the model."""

    directory: Path
    inputs: list[Field]
    outputs: list[Field]
    is_bare: bool
    ship: Callable[[type], str | None]
    allow_pickle: bool = True


@dataclass(frozen=True)
class Saved:
    """``format`` and ``why`` are for people. ``files``: name below the model's folder → file; ``path``: the name of the one to
    load. ``needs``: importable modules that loading takes. ``details``: JSON that ``restore`` reads."""

    serializer: str
    format: str
    why: str
    files: Mapping[str, Path]
    path: str
    needs: tuple[str, ...]
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self, folder: str) -> dict[str, Any]:
        return {
            **self.details,
            "serializer": self.serializer,
            "format": self.format,
            "why": self.why,
            "path": f"{folder}/{self.path}",
        }


class Unsuitable(Exception):
    """A format does not take this object; the message says why, and the next format is tried."""


def one_line(error: BaseException, limit: int = 200) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]}…"
