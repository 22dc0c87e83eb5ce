"""The class of the example, as it is written there, with a model of its own: plain Python, no server."""

import ast
from pathlib import Path

import pandas as pd
import pyarrow as pa
from sklearn.linear_model import LinearRegression
from sluice import DataFrame, model_handler

SCRIPT = Path(__file__).parent / "house_price.py"


def test_the_class_works_at_home():
    (definition,) = [one for one in ast.parse(SCRIPT.read_text()).body if isinstance(one, ast.ClassDef)]
    names = {"pd": pd, "model_handler": model_handler}
    exec(compile(ast.Module([definition], []), str(SCRIPT), "exec"), names)
    features = pd.DataFrame({"sqft": [1000.0, 2000.0, 1000.0], "rooms": [2.0, 2.0, 3.0]})
    handler = names["HousePriceModel"](model=LinearRegression().fit(features, [1.0, 2.0, 3.0]))
    handler.load_model()
    prices = handler.predict(DataFrame.from_arrow(pa.Table.from_pandas(features)))
    assert prices["price"].round(6).tolist() == [1.0, 2.0, 3.0]
