import sluice


@sluice.function(name="shout", max_batching_size=25, max_buffer_duration=50, retries=3)
def shout(text: list[str]) -> list[str]:
    return [t.upper() for t in text]
