"""A function that refuses single rows: their neighbours in the batch are kept, and nothing runs again for them."""

import sluice


@sluice.function(name="prices", max_batching_size=100, max_buffer_duration=10)
def prices(text: list[str]) -> list[float]:
    return [parse(one) for one in text]


def parse(text: str):
    amount, _, currency = text.partition(" ")
    if currency != "EUR":
        return sluice.RowError(f"{text!r} is not in EUR")
    return float(amount)
