"""Trains a model of house prices, deploys it as a service of its own, and calls it with all rows at once."""

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor
from sluice import AutoScalingSpec, Client, ScalingGroupResourceRequest, model_handler

random = np.random.default_rng(0)
houses = pd.DataFrame(
    {
        "sqft": random.uniform(400, 4000, 5000).round(),
        "rooms": random.integers(1, 9, 5000).astype(float),
    }
)
prices = 40_000 + 180 * houses.sqft + 9_000 * houses.rooms + random.normal(0, 10_000, 5000)
rf = RandomForestRegressor(30, random_state=0).fit(houses, prices)


@model_handler
class HousePriceModel:
    def predict(self, df):
        return pd.DataFrame({"price": self.model.predict(df.to_pandas())})


client = Client()
version = client.register_model_version(
    name="house_price",
    model=HousePriceModel(model=rf),
    input_schema={"sqft": float, "rooms": float},
    output_schema={"price": float},
    dependencies=["scikit-learn", "pandas"],
    aliases=["production"],
)
print(f"registered version {version.model_version}: {version.format}, {', '.join(version.dependencies)}")

group = client.deploy_model_version_to_scaling_group(
    name="house-price-sg",
    model_name="house_price",
    model_version=version.model_version,
    scaling=AutoScalingSpec(min_replicas=1, max_replicas=2, target_cpu_utilization_percentage=70),
    # and gpu="nvidia-tesla-t4:1" where there is one
    resources=ScalingGroupResourceRequest(cpu="1", memory="2Gi"),
)
print(f"{group.function} is {group.state} with version {group.version}")

predict = client.function("house-price-sg", is_async=True)
answers = predict.chunked_call(houses, chunk_size=500, concurrent_chunks=4, timeout=120)["result"].to_numpy()
print(f"{len(answers)} prices, the same as here: {np.array_equal(answers, rf.predict(houses))}")
houses.assign(id=range(len(houses)), paid=prices).to_parquet("houses.parquet")
