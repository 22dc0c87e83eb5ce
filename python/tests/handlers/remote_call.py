"""Handlers as images bring them; the function's name chooses. Served by the reference worker and by ours alike."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


@dataclasses.dataclass
class House:
    price: float
    name: str


def doubled(event: dict[str, pa.Array], context: dict[str, Any]) -> pa.Array:
    return pc.multiply(event["x"], 2)


def listed(event: dict[str, pa.Array], context: dict[str, Any]) -> list[int]:
    return [x * 2 for x in event["x"].to_pylist()]


def chunked(event: dict[str, pa.Array], context: dict[str, Any]) -> pa.ChunkedArray:
    return pa.chunked_array([event["x"][:1], event["x"][1:]])


def columns(event: dict[str, pa.Array], context: dict[str, Any]) -> dict[str, Any]:
    return {"x": event["x"], "y": [str(x) for x in event["x"].to_pylist()]}


def batch(event: dict[str, pa.Array], context: dict[str, Any]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"z": event["x"]})


def table(event: dict[str, pa.Array], context: dict[str, Any]) -> pa.Table:
    return pa.table({"z": pa.chunked_array([event["x"][:1], event["x"][1:]])})


def records(event: dict[str, pa.Array], context: dict[str, Any]) -> list[House]:
    return [House(float(x), f"h{x}") for x in event["x"].to_pylist()]


def names(event: dict[str, pa.Array], context: dict[str, Any]) -> list[str]:
    return [",".join(sorted(event))] * len(next(iter(event.values())))


def told(event: dict[str, pa.Array], context: dict[str, Any]) -> list[str]:
    return [f"{context['function_name']} {context['metadata'].get('x-test')} {bool(context['peer'])}"]


def items(event: dict[str, pa.Array], context: dict[str, Any]) -> Any:
    for x in event["x"].to_pylist():
        if x < 0:
            raise ValueError(f"negative: {x}")
        yield [x]


async def later(event: dict[str, pa.Array], context: dict[str, Any]) -> pa.Array:
    return pc.multiply(event["x"], 2)


async def later_items(event: dict[str, pa.Array], context: dict[str, Any]) -> Any:
    for x in event["x"].to_pylist():
        yield [x]


def failing(event: dict[str, pa.Array], context: dict[str, Any]) -> None:
    raise KeyError("né")


def handler(event: dict[str, pa.Array], context: dict[str, Any]) -> Any:
    return globals()[context["function_name"]](event, context)
