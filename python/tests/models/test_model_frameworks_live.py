"""Each framework on the real server: trained here, registered, deployed, called in bulk, compared with the local prediction."""

import base64
import os
import subprocess
import sys
from pathlib import Path

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
    label = np.where(PRICE.gt(PRICE.median()), "high", "low")
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


def only_on(request, store):
    """Environments are made by the same workers on both stores, and each takes half a minute."""
    if store not in request.node.name:
        pytest.skip(f"it runs on {store} only")


def test_an_environment_of_its_own(client, deploy, request):
    """scikit-learn is installed by the workers, into a virtual environment of the version; pandas does not come from here."""
    only_on(request, "redis")
    model = RandomForestRegressor(5).fit(MATRIX, PRICE)
    outputs = {"price": float, "prefix": str, "pandas": bool}
    group = deploy(classes.Placed(model=model), INPUTS, outputs, dependencies=["scikit-learn"], timeout=600)
    assert client.version(group.model).dependencies[0].startswith("scikit-learn==")
    found = called_in_bulk(client, group.name)
    assert [one["price"] for one in found] == model.predict(MATRIX).tolist()
    (prefix,) = {one["prefix"] for one in found}
    assert prefix != sys.prefix
    assert {one["pandas"] for one in found} == {False}


def test_the_example(client, request, tmp_path):
    """The whole script: a class of __main__, an environment of its own, a bulk call, and the same answers."""
    only_on(request, "embedded")
    script = Path(__file__).parents[3] / "examples" / "models" / "house-price" / "house_price.py"
    env = {**os.environ, "SLUICE_URL": client.url}
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path, env=env)
    assert ran.returncode == 0, ran.stderr
    assert "model.house-price-sg is ready with version 1" in ran.stdout
    assert "5000 prices, the same as here: True" in ran.stdout
    source = client.version("house_price", "production").document["source"]
    text = base64.b64decode(source[0]["content"]).decode()
    assert "class HousePriceModel" in text and "Client" not in text and "RandomForest" not in text
    client.delete_scaling_group("house-price-sg")
