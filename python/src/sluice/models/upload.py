"""Files of a registration on their way to the server's artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sluice.artifacts import Artifacts
from sluice.errors import DeclarationError
from sluice.image import Image
from sluice.transport import Transport


def uploaded(transport: Transport, files: Mapping[str, str | Path]) -> list[dict[str, Any]]:
    """``[{"path", "digest", "bytes"}]``; what the server has already is not sent again."""
    artifacts = Artifacts(transport)
    stored = {path: artifacts.upload(file) for path, file in sorted(files.items())}
    return [{"path": path, "digest": one.digest, "bytes": one.bytes} for path, one in stored.items()]


def image_json(transport: Transport, image: Any) -> dict[str, Any] | None:
    """A name of an image, or what one is built from, with the files of its context uploaded."""
    if image is None:
        return None
    if isinstance(image, str):
        return {"reference": image}
    if not isinstance(image, Image):
        raise DeclarationError(f'image is {image!r}; it takes a sluice.Image, or the name of an image as "registry/name:tag"')
    return {"containerfile": image.containerfile(), "context": uploaded(transport, image.context())}
