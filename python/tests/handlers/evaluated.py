"""Models to evaluate. Those named echo.… answer a column of the table, so that a test writes its answers into the table."""

import pyarrow as pa
import sluice

QUICK = {"max_batching_size": 10_000, "max_buffer_duration": 1, "retries": 0}


@sluice.function(name="price", **QUICK)
def price(sqft: float, rooms: float) -> float:
    """Regression. Refuses houses without rooms."""
    if rooms == 0:
        raise sluice.RowError("a house has rooms")
    return 180 * sqft + 9000 * rooms


@sluice.function(name="species", **QUICK)
def species(length: list[float], width: list[float]) -> list[list[float]]:
    """Classification: scores of three classes that are 1 together."""
    return [[w / (x + w + 1), x / (x + w + 1), 1 / (x + w + 1)] for x, w in zip(length, width, strict=True)]


@sluice.function(name="letters", **QUICK)
def letters(text: list[str]) -> list[list[float]]:
    """Embedding: how often each of five letters is in the text."""
    return [[float(one.count(letter)) for letter in "abcde"] for one in text]


@sluice.function(name="echo.text", **QUICK)
def echo_text(answer: list[str]) -> list[str]:
    return answer


@sluice.function(name="echo.number", input_types={"answer": pa.float64()}, output_type=pa.float64(), **QUICK)
def echo_number(answer: pa.Array) -> pa.Array:
    return answer


@sluice.function(name="echo.whole", **QUICK)
def echo_whole(answer: list[int]) -> list[int]:
    return answer


@sluice.function(name="echo.list", input_types={"answer": pa.list_(pa.float64())}, output_type=pa.list_(pa.float64()), **QUICK)
def echo_list(answer: pa.Array) -> pa.Array:
    return answer


FIELDS = pa.struct([("a", pa.float64()), ("b", pa.float64()), ("label", pa.string())])


@sluice.function(name="echo.record", input_types={"answer": FIELDS}, output_type=FIELDS, **QUICK)
def echo_record(answer: pa.Array) -> pa.Array:
    return answer


SCORES = pa.struct([("cat", pa.float64()), ("dog", pa.float64())])


@sluice.function(name="echo.scores", input_types={"answer": SCORES}, output_type=SCORES, **QUICK)
def echo_scores(answer: pa.Array) -> pa.Array:
    return answer


@sluice.function(name="echo.table", **QUICK)
def echo_table(table: pa.Table) -> list[dict]:
    """Takes any columns; answers JSON."""
    return table.column(0).to_pylist()
