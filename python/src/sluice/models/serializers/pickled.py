"""Objects that only pickle can save. The registration records the digest of the bytes, and they are loaded only in a replica of
that model, and only when they have it: nobody who reads a registry runs them."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sluice.errors import DeclarationError
from sluice.models.frame import DataFrame
from sluice.models.schema import Field
from sluice.models.serializers.features import features_for
from sluice.models.serializers.saved import Saved, SaveRequest, one_line

NAME = "model.pkl"


def save(model: Any, request: SaveRequest, reason: str = "no framework of the list has made it") -> Saved:
    kind = type(model)
    named = f"{kind.__module__}.{kind.__qualname__}"
    if not request.allow_pickle:
        raise DeclarationError(f"{named} can only be saved as pickle ({reason}), and allow_pickle is False")
    if kind.__module__ == "__main__":
        raise DeclarationError(
            f"{named} can only be saved as pickle ({reason}), and a replica cannot import a class of __main__: "
            "move the class into a file of its own and import it"
        )
    root = kind.__module__.partition(".")[0]
    request.ship(kind)
    try:
        data = pickle.dumps(model, protocol=5)
    except Exception as error:  # an object's own reduce may do anything
        raise DeclarationError(
            f"{named} cannot be pickled ({one_line(error)}); put functions that it holds into a file and import them, or hand "
            "its files over with files=[…] and build it in load_model"
        ) from None
    (request.directory / NAME).write_bytes(data)
    warnings.warn(
        f"{named} is saved as pickle ({reason}); it is loaded only in its own replicas, and only with the digest of these bytes",
        stacklevel=2,
    )
    return Saved(
        serializer="pickled",
        format="pickle",
        why=reason,
        files={NAME: request.directory / NAME},
        path=NAME,
        needs=() if root == "builtins" else (root,),
        details={"sha256": hashlib.sha256(data).hexdigest()},
    )


def restore(saved: Mapping[str, Any], directory: Path, *, is_replica: bool = False) -> Any:
    if not is_replica:
        raise DeclarationError(
            "this model is a pickle, which runs code as it loads; it is loaded only in a replica of the model, not here"
        )
    data = (directory / saved["path"]).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != saved.get("sha256"):
        raise DeclarationError(
            f"the pickle {saved['path']} has the SHA-256 {digest}, and {saved.get('sha256')} was registered: it was changed, "
            "and is not loaded; register the model again"
        )
    return pickle.loads(data)  # these very bytes were registered


def predict(model: Any, frame: DataFrame, outputs: list[Field]) -> Any:
    if not callable(getattr(model, "predict", None)):
        raise DeclarationError(f"a bare {type(model).__qualname__} has no predict; wrap it in a class with @sluice.model_handler")
    return model.predict(features_for(frame, getattr(model, "feature_names_in_", None)))
