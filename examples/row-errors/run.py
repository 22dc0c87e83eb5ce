"""Sends prices, of which one cannot be read, and goes on: null and an error for that row, and only for it."""

import json

import pyarrow as pa
from sluice import CallFailedError, Remote

TEXTS = ["12.50 EUR", "3 EUR", "8.20 USD", "0.99 EUR"]

prices = Remote().function("prices", output_type=pa.float64(), is_async=True)

table = prices.chunked_call(pa.table({"text": TEXTS}), chunk_size=2, timeout=60, on_error="null")
for text, price, error in zip(TEXTS, table["result"].to_pylist(), table["error"].to_pylist(), strict=True):
    print(f"{text:>10}", price if error is None else json.loads(error)["message"])

try:
    prices.defer_batch(pa.table({"text": TEXTS})).get(timeout=60)
except CallFailedError as error:
    print(f"without on_error: {error}")
