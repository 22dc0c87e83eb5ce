"""Each framework's model saved, restored in another process, and compared with the local prediction row by row."""

import importlib.metadata

import classes
import lightgbm
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skl2onnx
import xgboost
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sluice import DeclarationError
from sluice.models.serializers import serializer_name

RANDOM = np.random.default_rng(7)
FRAME = pd.DataFrame({"sqft": RANDOM.uniform(50, 300, 200), "rooms": RANDOM.integers(1, 9, 200).astype(float)})
PRICE = FRAME.sqft * 30 + FRAME.rooms * 100
CLASS = np.where(PRICE.gt(PRICE.median()), "high", "low")
TABLE = pa.Table.from_pandas(FRAME, preserve_index=False)
INPUTS = {"sqft": float, "rooms": float}
MATRIX = FRAME.to_numpy()


def booster():
    return xgboost.train({"objective": "reg:squarederror"}, xgboost.DMatrix(MATRIX, PRICE), 5)


def lightgbm_booster():
    return lightgbm.train({"verbose": -1}, lightgbm.Dataset(MATRIX, PRICE), 5)


MODELS = {
    "forest": (lambda: RandomForestRegressor(8, random_state=0).fit(FRAME, PRICE), "skops", lambda m: m.predict(FRAME)),
    "forest on arrays": (lambda: RandomForestRegressor(8).fit(MATRIX, PRICE), "skops", lambda m: m.predict(MATRIX)),
    "pipeline of labels": (
        lambda: make_pipeline(FunctionTransformer(np.log1p), StandardScaler(), LogisticRegression()).fit(MATRIX, CLASS),
        "skops",
        lambda m: m.predict(MATRIX),
    ),
    "xgboost regressor": (lambda: xgboost.XGBRegressor(n_estimators=5).fit(FRAME, PRICE), "ubj", lambda m: m.predict(FRAME)),
    "xgboost booster": (booster, "ubj", lambda m: m.predict(xgboost.DMatrix(MATRIX))),
    "lightgbm classifier": (
        lambda: lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(FRAME, CLASS),
        "skops",
        lambda m: m.predict(FRAME),
    ),
    "lightgbm booster": (lightgbm_booster, "text", lambda m: m.predict(MATRIX)),
}


KNOW_NAMES = ("forest", "xgboost regressor", "lightgbm classifier")
CASES = [(name, ["sqft", "rooms"]) for name in MODELS] + [(name, ["rooms", "sqft"]) for name in KNOW_NAMES]


@pytest.mark.parametrize(("name", "order"), CASES, ids=[f"{name}, {order[0]} first" for name, order in CASES])
def test_a_bare_model_predicts_as_at_home(lay, name, order):
    make, form, predict = MODELS[name]
    model = make()
    expected = predict(model)
    kind = str if expected.dtype.kind in "OU" else pa.from_numpy_dtype(expected.dtype)
    laid = lay(model, {column: float for column in order}, {"answer": kind})
    assert laid.saved["format"] == form
    assert laid.saved["why"]
    assert laid.predict(TABLE).to_pylist() == expected.tolist()


def test_a_class_around_the_model_predicts_as_at_home(lay):
    model = RandomForestRegressor(8).fit(FRAME, PRICE)
    laid = lay(classes.Price(model=model), INPUTS, {"price": float}, dependencies=["scikit-learn", "pandas"])
    assert laid.predict(TABLE).to_pylist() == model.predict(FRAME).tolist()
    sklearn, pandas, skops = (importlib.metadata.version(name) for name in ("scikit-learn", "pandas", "skops"))
    assert laid.package.dependencies == [f"scikit-learn=={sklearn}", f"pandas=={pandas}", f"skops=={skops}"]


def test_onnx_is_shipped_as_it_is(lay, tmp_path):
    model = RandomForestRegressor(8).fit(MATRIX.astype(np.float32), PRICE)
    proto = skl2onnx.to_onnx(model, MATRIX[:1].astype(np.float32))
    expected = model.predict(MATRIX.astype(np.float32))
    laid = lay(proto, INPUTS, {"price": float})
    assert laid.saved["format"] == "onnx"
    np.testing.assert_allclose(laid.predict(TABLE).to_numpy(), expected, rtol=1e-5)
    (tmp_path / "prices.onnx").write_bytes(proto.SerializeToString())
    by_path = lay(tmp_path / "prices.onnx", INPUTS, {"price": pa.float32()})
    assert (by_path.home / "artifacts" / "model" / "model.onnx").read_bytes() == proto.SerializeToString()
    np.testing.assert_allclose(by_path.predict(TABLE).to_numpy(), expected, rtol=1e-5)


def test_onnx_inputs_and_outputs_are_found_by_name(lay):
    model = LogisticRegression().fit(MATRIX, CLASS)
    types = [("sqft", skl2onnx.common.data_types.FloatTensorType([None, 2]))]
    proto = skl2onnx.to_onnx(model, initial_types=types, options={"zipmap": False})
    names = [one.name for one in proto.graph.output]
    table = pa.table({"sqft": pa.array(MATRIX.tolist(), pa.list_(pa.float32(), 2))})
    laid = lay(proto, {"sqft": pa.list_(pa.float32(), 2)}, {names[1]: pa.list_(pa.float32(), 2), names[0]: str})
    answer = laid.predict(table).to_pylist()
    assert [one[names[0]] for one in answer] == model.predict(MATRIX.astype(np.float32)).tolist()
    np.testing.assert_allclose([one[names[1]] for one in answer], model.predict_proba(MATRIX), rtol=1e-3, atol=1e-5)


def test_an_onnx_class_gets_a_session_at_home_and_deployed(lay):
    from zoo_onnx import Session

    model = RandomForestRegressor(4).fit(MATRIX.astype(np.float32), PRICE)
    handler = Session(model=skl2onnx.to_onnx(model, MATRIX[:1].astype(np.float32)))
    handler.load_model()
    from sluice import DataFrame

    local = handler.predict(DataFrame(TABLE))["price"]
    laid = lay(handler, INPUTS, {"price": pa.float32()})
    assert laid.predict(TABLE).to_pylist() == local.tolist()


def test_a_pipeline_with_code_of_ones_own_ships_that_code(lay):
    """skops lists the function among the trusted types; its module goes along."""
    model = make_pipeline(FunctionTransformer(classes.scaled, kw_args={"factor": 2.0}), StandardScaler(), LogisticRegression())
    model.fit(MATRIX, CLASS)
    laid = lay(model, INPUTS, {"label": str})
    assert laid.saved["trusted"] == ["kinds.scaling.scaled"]
    assert "kinds/scaling.py" in laid.sources()
    assert laid.predict(TABLE).to_pylist() == model.predict(MATRIX).tolist()


def test_text_columns_reach_a_column_transformer(lay):
    frame = FRAME.assign(kind=pd.Series(CLASS, dtype=object))
    columns = make_column_transformer((OneHotEncoder(), ["kind"]), (StandardScaler(), ["sqft", "rooms"]))
    model = make_pipeline(columns, RandomForestRegressor(4, random_state=0)).fit(frame, PRICE)
    laid = lay(model, {**INPUTS, "kind": str}, {"price": float})
    table = pa.Table.from_pandas(frame, preserve_index=False)
    assert laid.predict(table).to_pylist() == pytest.approx(model.predict(frame).tolist())


@pytest.mark.filterwarnings("ignore:.*is saved as pickle")
def test_without_skops_a_model_is_pickled_by_its_digest(lay, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skops.io", None)
    model = RandomForestRegressor(4).fit(FRAME, PRICE)
    laid = lay(model, INPUTS, {"price": float})
    assert laid.saved["format"] == "pickle"
    assert "skops does not take it: it is not installed" in laid.saved["why"]
    monkeypatch.undo()
    assert laid.predict(TABLE).to_pylist() == model.predict(FRAME).tolist()


def test_frameworks_are_found_without_importing_them():
    class Fake:
        pass

    for module, name in (
        ("torch.nn.modules", "torch"),
        ("keras.src.models", "keras"),
        ("catboost.core", "catboost"),
        ("mine", "pickled"),
    ):
        Fake.__module__ = module
        assert serializer_name(Fake()) == name
        assert serializer_name(type("Below", (Fake,), {"__module__": "mine"})()) == name


@pytest.mark.parametrize("model", [StandardScaler().fit(MATRIX), {"weights": [1.0]}, np.mean])
def test_a_bare_object_that_predicts_nothing_is_refused_at_registration(lay, model):
    with pytest.raises(DeclarationError, match="a bare .* has no predict; wrap it in a class with @sluice.model_handler"):
        lay(model, INPUTS, {"y": float})


def test_columns_that_a_model_was_not_fitted_with_are_said(lay, recwarn):
    model = LinearRegression().fit(FRAME, PRICE)
    lay(model, {"rooms": float, "sqft": float}, {"y": float})
    assert not [one for one in recwarn.list if "fitted with" in str(one.message)]
    with pytest.warns(
        UserWarning, match="fitted with the columns sqft, rooms, and input_schema names Sqft, Rooms; .* by position"
    ):
        lay(model, {"Sqft": float, "Rooms": float}, {"y": float})


def test_an_onnx_file_brings_the_weights_that_it_keeps_beside_itself(lay, tmp_path):
    import onnx

    model = LinearRegression().fit(MATRIX, PRICE)
    proto = skl2onnx.to_onnx(model, MATRIX[:1].astype(np.float32))
    weights = onnx.numpy_helper.from_array(np.full((1, 1), 1000, np.float32), "offset")
    proto.graph.initializer.append(weights)
    proto.graph.node.append(onnx.helper.make_node("Add", [proto.graph.output[0].name, "offset"], ["moved"]))
    proto.graph.output[0].name = "moved"
    path = tmp_path / "linear.onnx"
    onnx.save_model(proto, str(path), save_as_external_data=True, location="linear.onnx.data", size_threshold=0)
    laid = lay(str(path), INPUTS, {"y": pa.float32()})
    assert sorted(laid.package.files) == ["model/linear.onnx.data", "model/model.onnx"]
    np.testing.assert_allclose(laid.predict(TABLE), model.predict(MATRIX) + 1000, rtol=1e-4)
    (tmp_path / "linear.onnx.data").unlink()
    with pytest.raises(DeclarationError, match="keeps weights in linear.onnx.data, which is not beside it"):
        lay(str(path), INPUTS, {"y": pa.float32()})
