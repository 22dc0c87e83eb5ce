"""A registered model as a handler: ``--model-directory DIR`` with ``function.json`` and ``source/`` in it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from sluice.remote_call.handlers import HandlerNotFound

ARTIFACTS_VARIABLE = "SLUICE_ARTIFACTS"
ARTIFACTS = "/app/artifacts"


def model_handler(directory: str) -> tuple[Callable[..., Any], Callable[[], None], None]:
    """Handler, startup hook (it loads the model, before the port opens), and no shutdown hook."""
    root = Path(directory)
    try:
        spec = json.loads((root / "function.json").read_text())
    except (OSError, ValueError) as error:
        raise HandlerNotFound(f"--model-directory {directory!r}: its function.json cannot be read: {error}") from None
    loaded: list[Any] = []

    def start() -> None:
        from sluice.models.serving import load

        loaded.append(load(spec, root / "source", os.environ.get(ARTIFACTS_VARIABLE) or ARTIFACTS))

    def handler(event: dict[str, pa.Array], context: dict[str, Any]) -> pa.Array:
        return loaded[0].predict_batch(pa.table(event))

    return handler, start, None
