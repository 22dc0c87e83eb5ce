"""How a model object becomes files and is made again, by framework.

A framework is found by the module names in the object's class tree, so that none is imported that is not loaded. Each
module here has ``save(model, request) -> Saved``, ``restore(saved, directory) -> model`` and
``predict(model, frame, outputs)``, the obvious answer of a bare model; ``opened(model)`` where an object must be opened before
it predicts.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from sluice.errors import DeclarationError
from sluice.models.frame import DataFrame
from sluice.models.schema import Field
from sluice.models.serializers.saved import Saved, SaveRequest

_BY_ROOT = {
    "sklearn": "scikit_learn",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
    "catboost": "catboost",
    "torch": "torch",
    "keras": "keras",
    "tensorflow": "keras",
    "onnx": "onnx",
    "onnxruntime": "onnx",
}
_PREDICTING = {"scikit_learn", "pickled", "xgboost", "lightgbm", "catboost"}
"""Where the bare model's own ``predict`` is called."""
_NAMES = {*_BY_ROOT.values(), "pickled"}


def serializer_name(model: Any) -> str:
    """The module of this package for the object; ``pickled`` for what no framework of the list has made."""
    if _is_onnx_path(model):
        return "onnx"
    for kind in type(model).__mro__:
        found = _BY_ROOT.get(kind.__module__.partition(".")[0])
        if found is not None:
            return found
    return "pickled"


def _module(name: Any) -> ModuleType:
    if name not in _NAMES:
        raise DeclarationError(f"the model was saved by {name!r}, which this version of sluice does not know; update it")
    return import_module(f"sluice.models.serializers.{name}")


def _is_onnx_path(model: Any) -> bool:
    return isinstance(model, (str, Path)) and str(model).endswith(".onnx")


def save(model: Any, request: SaveRequest) -> Saved:
    """Writes the object's files. Raises DeclarationError when it cannot be saved, with the reason and a way out."""
    if isinstance(model, (str, Path)) and not _is_onnx_path(model):
        raise DeclarationError(
            f"model is the path {str(model)!r}; only .onnx files are taken as they are: load the model object, "
            "or hand the file over with files=[…] and read it in load_model"
        )
    if request.is_bare:
        _check_bare(model, request.inputs)
    return _module(serializer_name(model)).save(model, request)


def _check_bare(model: Any, inputs: list[Field]) -> None:
    """Raises DeclarationError for an object that predicts nothing by itself; warns of columns that it was not fitted with."""
    if serializer_name(model) in _PREDICTING and not callable(getattr(model, "predict", None)):
        kind = type(model)
        raise DeclarationError(
            f"a bare {kind.__qualname__} has no predict; wrap it in a class with @sluice.model_handler, whose predict(self, df) "
            "uses self.model"
        )
    fitted = [str(name) for name in _fitted_names(model)]
    given = [field["name"] for field in inputs]
    if fitted and set(fitted) != set(given):
        warnings.warn(
            f"the model was fitted with the columns {', '.join(fitted)}, and input_schema names {', '.join(given)}; what it gets "
            "is by position, not by name",
            stacklevel=2,
        )


def _fitted_names(model: Any) -> Any:
    try:
        names = getattr(model, "feature_names_in_", None)
    except Exception:  # a property of a model that was not fitted
        return ()
    return () if names is None else names


def restore(saved: Mapping[str, Any], directory: Path, *, is_replica: bool = False) -> Any:
    """The object that was saved. Pickle only where ``is_replica`` says that this is the model's own process."""
    module = _module(saved.get("serializer"))
    if saved["serializer"] == "pickled":
        return module.restore(saved, directory, is_replica=is_replica)
    return module.restore(saved, directory)


def opened(model: Any) -> Any:
    """What predicts: the object itself, or a session over it."""
    open_model = getattr(_module(serializer_name(model)), "opened", None)
    return model if open_model is None else open_model(model)


def predict(model: Any, frame: DataFrame, outputs: list[Field]) -> Any:
    """The obvious prediction of a bare model: all input columns in the order of the schema."""
    return _module(serializer_name(model)).predict(model, frame, outputs)
