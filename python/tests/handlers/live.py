"""Functions that the live tests deploy. ``gate`` inputs are FIFOs: opening one blocks until the test opens its other end."""

import pyarrow as pa
import sluice

QUICK = {"max_batching_size": 1000, "max_buffer_duration": 1}


@sluice.function(**QUICK)
def upper(text: list[str]) -> list[str]:
    return [t.upper() for t in text]


@sluice.function(**QUICK)
def widen(text: list[str]) -> list[list[float]]:
    return [[float(len(t)), 0.5] for t in text]


@sluice.function(**QUICK)
def add(left: list[int], right: list[int]) -> list[int]:
    return [a + b for a, b in zip(left, right, strict=True)]


@sluice.function(**QUICK)
def halve(x: list[float]) -> list[float]:
    return [one / 2 for one in x]


@sluice.function(**QUICK)
def half(n: int) -> float:
    if n % 2:
        raise sluice.RowError(f"{n} is odd")
    return n / 2


@sluice.function(retries=0, **QUICK)
def picky(n: list[int]) -> list[int]:
    if 13 in n:
        raise ValueError("13 is not allowed")
    return n


@sluice.function(**QUICK)
def describe(item: list[dict]) -> list[dict]:
    return [{"keys": sorted(one)} for one in item]


@sluice.function(**QUICK)
def measure(table: pa.Table) -> list[int]:
    return [table.num_columns] * table.num_rows


@sluice.function(**QUICK, min_replicas=4)
def wait_at(gate: list[str]) -> list[str]:
    for path in gate:
        with open(path) as fifo:
            fifo.read()
    return gate


@sluice.function(retries=0, call_timeout=0.3, **QUICK)
def hang(gate: list[str]) -> list[str]:
    for path in gate:
        open(path).close()
    return gate


@sluice.function(**QUICK)
async def context_of(text: list[str], context: sluice.Context) -> list[str]:
    return [context.calls[0].metadata.get("who", "") for _ in text]


@sluice.function(**QUICK)
def paused_one(text: list[str]) -> list[str]:
    """Paused by the fixture, so that its calls stay pending."""
    return text


@sluice.function(max_batching_size=1, min_replicas=2, retries=0)
def relay(step: list[str]) -> list[str]:
    verb, running, *gate = step[0].split()
    if verb == "fail":
        open(running).close()
        raise ValueError("as told")
    open(running, "w").close()
    open(gate[0]).close()
    return step
