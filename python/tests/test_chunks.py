"""The arithmetic of chunks, and what is refused before anything is sent."""

import random

import pytest
from sluice.chunks import ChunkOptions, ranges


def test_num_chunks_gives_exactly_that_many_of_almost_one_size():
    rng = random.Random(7)
    for _ in range(500):
        rows, count = rng.randrange(0, 300), rng.randrange(1, 40)
        cuts = ranges(rows, None, count)
        assert len(cuts) == min(count, rows)
        sizes = [end - first for first, end in cuts]
        assert sum(sizes) == rows
        assert not sizes or (min(sizes) >= 1 and max(sizes) - min(sizes) <= 1)
        assert [first for first, _ in cuts] == [sum(sizes[:i]) for i in range(len(sizes))]


@pytest.mark.parametrize(
    ("rows", "size", "expected"),
    [
        (0, 5, []),
        (4, 5, [(0, 4)]),
        (10, 5, [(0, 5), (5, 10)]),
        (11, 5, [(0, 5), (5, 10), (10, 11)]),
        (3, 1, [(0, 1), (1, 2), (2, 3)]),
    ],
)
def test_chunk_size_cuts_whole_chunks_and_a_rest(rows, size, expected):
    assert ranges(rows, size, None) == expected


@pytest.mark.parametrize(
    ("size", "count", "message"),
    [
        (None, None, "neither chunk_size nor num_chunks is given; give exactly one of them"),
        (2, 2, "both chunk_size and num_chunks are given; give exactly one of them"),
        (0, None, "chunk_size is 0; it takes a whole number of at least 1"),
        (None, -1, "num_chunks is -1; it takes a whole number of at least 1"),
        (2.5, None, "chunk_size is 2.5; it takes a whole number of at least 1"),
        (None, True, "num_chunks is True; it takes a whole number of at least 1"),
    ],
)
def test_wrong_chunks_name_the_option_and_its_value(size, count, message):
    with pytest.raises(ValueError) as caught:
        ranges(10, size, count)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((0, None, "raise", False), "concurrent_chunks is 0; it takes a whole number from 1 to 1024"),
        ((4, -1, "raise", False), "timeout is -1; it takes seconds of at least 0, or None to wait for ever"),
        ((4, "5", "raise", False), "timeout is '5'; it takes seconds of at least 0, or None to wait for ever"),
        ((4, None, "skip", False), 'on_error is \'skip\'; it takes "raise" or "null"'),
    ],
)
def test_wrong_options_name_the_option_and_its_value(options, message):
    with pytest.raises(ValueError) as caught:
        ChunkOptions(*options)
    assert str(caught.value) == message
