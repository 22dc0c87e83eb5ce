"""The handler's body, called locally: the row that cannot be read is refused, its neighbours are answered."""

import importlib.util
from pathlib import Path

import sluice


def load():
    spec = importlib.util.spec_from_file_location("prices_example", Path(__file__).parent / "prices.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_row_is_refused_and_its_neighbours_are_not():
    first, refused, last = load().prices(["12.50 EUR", "8.20 USD", "1 EUR"])
    assert (first, last) == (12.5, 1.0)
    assert isinstance(refused, sluice.RowError)
    assert str(refused) == "'8.20 USD' is not in EUR"
