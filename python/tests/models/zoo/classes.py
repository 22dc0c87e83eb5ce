"""Model classes that the tests register. Beside this module lie the ones that it imports."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kinds.scaling import scaled
from sluice import DataFrame, ModelHandler, model_handler


@model_handler
class Price:
    """The issue's own: a model object and predict."""

    def predict(self, df):
        import pandas as pd

        return pd.DataFrame({"price": self.model.predict(df.to_pandas())})


@model_handler
class Scaled:
    """Uses a module beside it, and an attribute of its own."""

    factor: float = 1.0

    def predict(self, df: DataFrame):
        return {"y": scaled(df["x"].to_numpy(), self.factor)}


@model_handler
class FromFiles:
    """Owns its loading: no model object, only files and folders."""

    def load_model(self):
        self.default_load_model()
        assert self.model is None
        self.offset = float(self.files["offset.txt"].read_text())
        folder = self.files["words"]
        self.words = [Path(path).read_text() for path in sorted(folder.rglob("*.txt"))]
        print(f"loaded in {os.getpid()} from {self.artifact_path}")

    def predict(self, df):
        return {"y": df["x"].to_numpy() + self.offset, "word": [self.words[0]] * len(df)}


@model_handler
class Counted:
    """Restores the model, and goes on."""

    def load_model(self):
        self.default_load_model()
        self.loads = getattr(self, "loads", 0) + 1

    def predict(self, df):
        assert self.loads == 1
        return np.asarray(self.model.predict(df.to_numpy()))


@model_handler
class Legacy:
    def handler(self, batch):
        return {"y": batch.column("x")}


class Doubler:
    """A model that only pickle can save."""

    def predict(self, features):
        return np.asarray(features)[:, 0] * 2


@model_handler
class Crashing:
    def load_model(self):
        raise RuntimeError("the weights are not for this machine")

    def predict(self, df):
        return df


@model_handler
class Dying:
    def load_model(self):
        os._exit(3)

    def predict(self, df):
        return df


@model_handler
class Stuck:
    def load_model(self):
        import threading

        print("half way", flush=True)
        threading.Event().wait()

    def predict(self, df):
        return df


@model_handler
class Hungry:
    def load_model(self):
        self.held = []
        while True:
            self.held.append(np.ones(4 * 2**20))

    def predict(self, df):
        return df


@model_handler
class Wrong:
    """Answers what its field says."""

    how: str = "column"

    def predict(self, df):
        x = df["x"].to_numpy()
        return {
            "column": {"z": x},
            "extra": {"y": x, "z": x},
            "type": {"y": [str(one) for one in x]},
            "length": {"y": x[:-1]},
            "list": list(x),
            "none": None,
        }[self.how]


def inner():
    @model_handler
    class Hidden:
        def predict(self, df):
            return df

    return Hidden


@model_handler
class Placed:
    """Says where it runs, and whether pandas is there."""

    def predict(self, df):
        import importlib.util
        import sys

        rows = len(df)
        found = importlib.util.find_spec("pandas") is not None
        return {"price": self.model.predict(df.to_numpy()), "prefix": [sys.prefix] * rows, "pandas": [found] * rows}


@model_handler
class Constructed:
    """A constructor of its own, whose arguments no annotation names."""

    def __init__(self, model, factor, *more, offset=0.0, **names):
        self.model = model
        self._factor = factor
        self._offset = offset + sum(more) + sum(names.values())

    def predict(self, df):
        return {"y": df["x"].to_numpy() * self._factor + self._offset}


@model_handler
@dataclass
class Settings:
    factor: float
    model: object = None

    def predict(self, df):
        return {"y": df["x"].to_numpy() * self.factor}


@model_handler
class NeedsItsModel:
    def __init__(self, model):
        self.width = model.width

    def predict(self, df):
        return df


@model_handler
class Typed:
    """What its attributes have become in the replica."""

    number: float = 0.0
    seed: int = 0

    def predict(self, df):
        return {"y": [f"{self.number!r} {self.seed!r}"] * len(df)}


@model_handler
class Checked(ModelHandler):
    """With the base class that type checkers read."""

    factor: float = 1.0

    def load_model(self) -> None:
        super().load_model()
        self.words = self.files["words.txt"].read_text().split()

    def predict(self, df: DataFrame) -> dict[str, np.ndarray]:
        return {"y": self.model.predict(df.to_numpy()) * self.factor * len(self.words)}
