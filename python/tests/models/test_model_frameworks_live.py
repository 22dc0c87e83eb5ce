"""Each framework on the real server: trained here, registered, deployed, called in bulk, compared with the local prediction."""

import classes
import lightgbm
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import skl2onnx
import xgboost
from sklearn.ensemble import RandomForestRegressor
from sluice import AutoScalingSpec, ScalingGroupResourceRequest

RANDOM = np.random.default_rng(11)
ROWS = 5000
FRAME = pd.DataFrame({"sqft": RANDOM.uniform(50, 300, ROWS), "rooms": RANDOM.integers(1, 9, ROWS).astype(float)})
PRICE = FRAME.sqft * 30 + FRAME.rooms * 100
MATRIX = FRAME.to_numpy()
TABLE = pa.Table.from_pandas(FRAME, preserve_index=False)
INPUTS = {"sqft": float, "rooms": float}


def forest():
    model = RandomForestRegressor(10).fit(FRAME, PRICE)
    return classes.Price(model=model), {"price": float}, model.predict(FRAME)


def xgboost_regressor():
    model = xgboost.XGBRegressor(n_estimators=20).fit(FRAME, PRICE)
    return model, {"price": pa.float32()}, model.predict(FRAME)


def lightgbm_classifier():
    label = np.where(PRICE > PRICE.median(), "high", "low")
    model = lightgbm.LGBMClassifier(n_estimators=20, verbose=-1).fit(FRAME, label)
    return model, {"label": str}, model.predict(FRAME)


def onnx_forest():
    model = RandomForestRegressor(10).fit(MATRIX.astype(np.float32), PRICE)
    proto = skl2onnx.to_onnx(model, MATRIX[:1].astype(np.float32))
    import onnxruntime

    session = onnxruntime.InferenceSession(proto.SerializeToString())
    return proto, {"price": pa.float32()}, session.run(None, {"X": MATRIX.astype(np.float32)})[0][:, 0]


def called_in_bulk(client, group):
    answer = client.function(group, is_async=True).chunked_call(TABLE, chunk_size=400, concurrent_chunks=8, timeout=120)
    return answer["result"].to_pylist()


@pytest.mark.parametrize("make", [forest, xgboost_regressor, lightgbm_classifier, onnx_forest], ids=lambda one: one.__name__)
def test_a_framework(client, deploy, make):
    model, outputs, expected = make()
    resources = ScalingGroupResourceRequest(cpu="1", memory="2Gi")
    group = deploy(model, INPUTS, outputs, scaling=AutoScalingSpec(1, 1), resources=resources)
    assert (group.state, group.ready, group.version, group.function) == ("ready", 1, 1, f"model.{group.name}")
    assert called_in_bulk(client, group.name) == expected.tolist()


def test_an_environment_of_its_own(client, deploy, home):
    """scikit-learn is installed by the workers, into a virtual environment of the version; no NumPy comes from here."""
    model = RandomForestRegressor(5).fit(MATRIX, PRICE)
    group = deploy(model, INPUTS, {"price": float}, dependencies=["scikit-learn"], timeout=600)
    assert called_in_bulk(client, group.name) == model.predict(MATRIX).tolist()
    installed = [line["text"] for line in client.logs(group.name) if "Successfully installed" in line["text"]]
    assert any("scikit-learn" in text and "skops" in text and "pandas" not in text for text in installed)
