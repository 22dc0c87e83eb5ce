"""What the server starts again with itself: few processes, since each test starts them three times."""

import sluice


@sluice.function(max_batching_size=1000, max_buffer_duration=1)
def upper(text: list[str]) -> list[str]:
    return [t.upper() for t in text]


@sluice.function(max_batching_size=1000, max_buffer_duration=1)
def half(n: int) -> float:
    if n % 2:
        raise sluice.RowError(f"{n} is odd")
    return n / 2
