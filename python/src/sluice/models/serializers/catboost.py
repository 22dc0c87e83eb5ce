"""CatBoost in its own binary format (cbm), which holds class names as well."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sluice.errors import DeclarationError
from sluice.models.frame import DataFrame
from sluice.models.schema import Field
from sluice.models.serializers.features import features_for
from sluice.models.serializers.saved import Saved, SaveRequest

NAME = "model.cbm"


def save(model: Any, request: SaveRequest) -> Saved:
    kind = next(kind for kind in type(model).__mro__ if kind.__module__.partition(".")[0] == "catboost")
    if not hasattr(model, "save_model"):
        raise DeclarationError(
            f"{type(model).__name__} is no CatBoost model; hand over a CatBoost, CatBoostClassifier or CatBoostRegressor"
        )
    path = request.directory / NAME
    model.save_model(str(path), format="cbm")
    return Saved(
        serializer="catboost",
        format="cbm",
        why="CatBoost's own format holds trees and class names, and no code",
        files={NAME: path},
        path=NAME,
        needs=("catboost",),
        details={"class": kind.__name__},
    )


def restore(saved: Mapping[str, Any], directory: Path) -> Any:
    import catboost

    kind = getattr(catboost, saved["class"], None)
    if not (isinstance(kind, type) and issubclass(kind, catboost.CatBoost)):
        raise DeclarationError(f"catboost has no model class {saved['class']!r}")
    model = kind()
    model.load_model(str(directory / saved["path"]), format="cbm")
    return model


def predict(model: Any, frame: DataFrame, outputs: list[Field]) -> Any:
    return model.predict(features_for(frame, model.feature_names_))
