"""A server of one's own around a scikit-learn model, in FastAPI. Sluice starts it, asks /ready, and posts batches to /infer."""

import os
from pathlib import Path

import skops.io
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

RATE = float(os.environ["RATE"])
model = skops.io.load(Path(os.environ["SLUICE_MODEL_PATH"]) / "prices.skops")
app = FastAPI()


class House(BaseModel):
    sqft: float
    rooms: float


class Batch(BaseModel):
    inputs: list[House]


@app.get("/ready")
def ready() -> dict[str, bool]:
    return {"ready": True}


@app.post("/infer")
def infer(batch: Batch) -> dict[str, list[float]]:
    prices = model.predict([[house.sqft, house.rooms] for house in batch.inputs])
    return {"outputs": (prices * RATE).tolist()}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
