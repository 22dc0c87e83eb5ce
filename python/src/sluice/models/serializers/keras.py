"""Keras (TensorFlow's, JAX's or PyTorch's) as ``.keras``, written and read in safe mode: layers and weights, no Python code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sluice.errors import DeclarationError
from sluice.models.frame import DataFrame
from sluice.models.schema import Field
from sluice.models.serializers.saved import Saved, SaveRequest, one_line

NAME = "model.keras"


def save(model: Any, request: SaveRequest) -> Saved:
    root = next((kind.__module__.partition(".")[0] for kind in type(model).__mro__ if hasattr(kind, "predict")), None)
    if root is None or not hasattr(model, "save"):
        raise DeclarationError(
            f"{type(model).__name__} is no Keras model; save it yourself (tf.saved_model.save), hand the folder over with "
            "files=[…] and read it in load_model"
        )
    path = request.directory / NAME
    request.ship(type(model))
    backend = _backend()
    try:
        model.save(path)
        restore({"path": NAME}, request.directory)
    except Exception as error:  # a Lambda layer, a class without get_config or registration
        raise DeclarationError(
            f"the Keras model is not saved safely ({one_line(error)}); put its code into layer classes of a file, marked "
            "with @keras.saving.register_keras_serializable()"
        ) from None
    return Saved(
        serializer="keras",
        format="keras",
        why="the .keras format in safe mode holds layers and weights, and no code",
        files={NAME: path},
        path=NAME,
        needs=("keras", backend),
        details={"backend": backend},
    )


def _backend() -> str:
    import keras

    return keras.backend.backend()


def restore(saved: Mapping[str, Any], directory: Path) -> Any:
    import keras

    return keras.models.load_model(directory / saved["path"], compile=False, safe_mode=True)


def predict(model: Any, frame: DataFrame, outputs: list[Field]) -> Any:
    if len(model.inputs) > 1:
        given: Any = {name: frame.select([name]).to_numpy() for name in frame.columns}
    else:
        given = frame.to_numpy()
    return model.predict(given, verbose=0)
