"""Registers server.py as an inference engine, imports a model for it, and serves it as the scaling group ``house-engine``."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import skops.io
import sluice
from sklearn.linear_model import LinearRegression
from sluice import engines

SERVER = Path(__file__).resolve().parent / "server.py"

random = np.random.default_rng(1)
houses = np.column_stack([random.uniform(400, 4000, 500), random.integers(1, 9, 500)]).astype(float)
prices = houses @ [180.0, 9000.0] + 30_000 + random.normal(0, 5000, 500)
model = LinearRegression().fit(houses, prices)

engine = engines.create_engine_version(
    project="houses",
    name="fastapi",
    version="1",
    # A process here; container_image_cpu="…" is an image with the same server.
    command=[sys.executable, str(SERVER)],
    readiness_probe=engines.ReadinessProbe(path="/ready", period_seconds=0.5, failure_threshold=60),
    predictor_env_schema=[engines.PredictorVariable("RATE", "float", 1.0, "What a price of the model is worth")],
    enforce_predictor_env_schema=True,
)

client = sluice.Client()
with tempfile.TemporaryDirectory() as folder:
    skops.io.dump(model, Path(folder) / "prices.skops")
    version = client.import_model(
        "houses",
        "house_prices",
        "Prices by size and rooms",
        task_type="Regression",
        folder=folder,
        input_schema={"sqft": float, "rooms": float},
        output_schema={"price": float},
    )

group = client.deploy_model_version_to_scaling_group(
    name="house-engine",
    model_name="house_prices",
    model_version=version.model_version,
    engine_selector=engines.EngineSelector("houses", "fastapi"),
    predictor_env_var={"RATE": 0.5},
    scaling=sluice.AutoScalingSpec(min_replicas=1, max_replicas=2),
    max_batching_size=500,
)
serving = f"{engine.project}/{engine.name} {engine.version}"
print(f"{group.name} is {group.state}: {serving} serves version {version.model_version} of the model")

table = pa.table({"sqft": houses[:, 0], "rooms": houses[:, 1]})
answers = client.function("house-engine").chunked_call(table, chunk_size=100, timeout=60)["result"].to_numpy()
same = np.allclose(answers, model.predict(houses) * 0.5)
print(f"{len(answers)} prices through the queue, the same as here: {same}")
