"""The class that serves a model object that came without one."""

from __future__ import annotations

from typing import Any

from sluice.models.frame import DataFrame
from sluice.models.handler import model_handler
from sluice.models.serializers import predict


@model_handler
class BareModel:
    """All input columns in the order of the schema go in; serializers say how, by framework."""

    _sluice_outputs: list[dict[str, Any]] = []

    def load_model(self) -> None:
        self.default_load_model()  # type: ignore[attr-defined]
        self.model = _on_device(self.model)  # type: ignore[has-type]

    def predict(self, df: DataFrame) -> Any:
        return predict(self.model, df, self._sluice_outputs)


def _on_device(model: Any) -> Any:
    """A PyTorch module moves to the GPU that its replica was given."""
    import sys

    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module) and torch.cuda.is_available():
        return model.to("cuda")
    return model
