"""LightGBM: a Booster as its own text; the scikit-learn classes, which know labels that the text does not, by skops."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sluice.models.frame import DataFrame
from sluice.models.schema import Field
from sluice.models.serializers import pickled, scikit_learn
from sluice.models.serializers.features import features_for
from sluice.models.serializers.saved import Saved, SaveRequest, Unsuitable

NAME = "model.txt"


def save(model: Any, request: SaveRequest) -> Saved:
    if not hasattr(model, "save_model"):
        try:
            return scikit_learn.as_skops(model, request, "lightgbm", ("lightgbm", "sklearn", "skops"))
        except Unsuitable as reason:
            return pickled.save(model, request, f"skops does not take it: {reason}")
    path = request.directory / NAME
    model.save_model(str(path))
    return Saved(
        serializer="lightgbm",
        format="text",
        why="LightGBM's own text holds the trees, and no code",
        files={NAME: path},
        path=NAME,
        needs=("lightgbm",),
    )


def restore(saved: Mapping[str, Any], directory: Path) -> Any:
    if saved["format"] == "skops":
        return scikit_learn.restore(saved, directory)
    import lightgbm

    return lightgbm.Booster(model_file=str(directory / saved["path"]))


def predict(model: Any, frame: DataFrame, outputs: list[Field]) -> Any:
    names = model.feature_name() if hasattr(model, "save_model") else model.feature_name_
    return model.predict(features_for(frame, names))
