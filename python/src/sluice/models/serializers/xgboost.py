"""XGBoost in its own binary JSON (UBJ), which holds the scikit-learn classes' attributes as well."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sluice.errors import DeclarationError
from sluice.models.frame import DataFrame
from sluice.models.schema import Field
from sluice.models.serializers.features import features_for
from sluice.models.serializers.saved import Saved, SaveRequest

NAME = "model.ubj"


def save(model: Any, request: SaveRequest) -> Saved:
    kind = next(kind for kind in type(model).__mro__ if kind.__module__.partition(".")[0] == "xgboost")
    path = request.directory / NAME
    if not hasattr(model, "save_model"):
        raise DeclarationError(f"{type(model).__name__} is no XGBoost model; hand over a Booster or an XGBModel")
    model.save_model(path)
    is_booster = kind.__name__ == "Booster"
    return Saved(
        serializer="xgboost",
        format="ubj",
        why="XGBoost's own format holds trees and parameters, and no code",
        files={NAME: path},
        path=NAME,
        needs=("xgboost",) if is_booster else ("xgboost", "sklearn"),
        details={"class": kind.__name__},
    )


def restore(saved: Mapping[str, Any], directory: Path) -> Any:
    import xgboost

    kind = getattr(xgboost, saved["class"], None)
    if not (isinstance(kind, type) and issubclass(kind, (xgboost.Booster, xgboost.XGBModel))):
        raise DeclarationError(f"xgboost has no model class {saved['class']!r}")
    model = kind()
    model.load_model(directory / saved["path"])
    return model


def predict(model: Any, frame: DataFrame, outputs: list[Field]) -> Any:
    import xgboost

    if not isinstance(model, xgboost.Booster):
        return model.predict(features_for(frame, model.get_booster().feature_names))
    features = features_for(frame, model.feature_names)
    return model.predict(xgboost.DMatrix(features, feature_names=model.feature_names))
