"""scikit-learn (and estimators of its shape) by skops: a zip of arrays and JSON. Types beyond skops' own list are named at
registration, and loading takes no others."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sluice.errors import DeclarationError
from sluice.models.frame import DataFrame
from sluice.models.schema import Field
from sluice.models.serializers import pickled
from sluice.models.serializers.features import features_for
from sluice.models.serializers.saved import Saved, SaveRequest, Unsuitable, one_line

NAME = "model.skops"


def save(model: Any, request: SaveRequest) -> Saved:
    try:
        return as_skops(model, request, "scikit_learn", ("sklearn", "skops"))
    except Unsuitable as reason:
        return pickled.save(model, request, f"skops does not take it: {reason}")


def as_skops(model: Any, request: SaveRequest, serializer: str, needs: tuple[str, ...]) -> Saved:
    """Raises Unsuitable where skops is not there, or does not give the same object back."""
    try:
        import skops.io
    except ImportError:
        raise Unsuitable("it is not installed (pip install skops)") from None
    path = request.directory / NAME
    try:
        skops.io.dump(model, path)
        trusted = sorted(skops.io.get_untrusted_types(file=path))
        skops.io.load(path, trusted=trusted)
    except Exception as error:  # unsupported objects fail in many ways
        path.unlink(missing_ok=True)
        raise Unsuitable(one_line(error)) from None
    roots = _ship(trusted, request)
    return Saved(
        serializer=serializer,
        format="skops",
        why=f"skops saves it without code; {len(trusted)} types beyond its own list are trusted"
        if trusted
        else "skops saves it without code",
        files={NAME: path},
        path=NAME,
        needs=tuple(dict.fromkeys((*needs, *roots))),
        details={"trusted": trusted},
    )


def _ship(trusted: list[str], request: SaveRequest) -> list[str]:
    """Sends along the local modules of the trusted types; answers the roots of the installed ones."""
    roots = []
    for name in trusted:
        module, _, attribute = name.rpartition(".")
        if module == "__main__":
            raise DeclarationError(
                f"the model holds {name}, which a replica cannot import; move it into a file of its own and import it"
            )
        found = getattr(sys.modules.get(module), attribute, None)
        if found is not None and request.ship(found) is None:
            roots.append(module.partition(".")[0])
    return [root for root in roots if root not in sys.stdlib_module_names]


def restore(saved: Mapping[str, Any], directory: Path) -> Any:
    import skops.io

    return skops.io.load(directory / saved["path"], trusted=list(saved["trusted"]))


def predict(model: Any, frame: DataFrame, outputs: list[Field]) -> Any:
    if not callable(getattr(model, "predict", None)):
        raise DeclarationError(f"a bare {type(model).__name__} has no predict; wrap it in a class with @sluice.model_handler")
    return model.predict(features_for(frame, getattr(model, "feature_names_in_", None)))
