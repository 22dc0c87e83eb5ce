"""Names that would lead a request elsewhere are refused before it is sent."""

import pytest
from sluice import Client
from sluice.errors import DeclarationError


@pytest.mark.parametrize("name", ["", ".", "..", None, 5])
def test_names_that_are_no_names(name):
    # Nothing listens there: what is sent fails otherwise.
    client = Client("http://127.0.0.1:1")
    for ask in (
        lambda: client.model(name),
        lambda: client.delete_model(name),
        lambda: client.delete_scaling_group(name),
        lambda: client.delete_alias("house", name),
        lambda: client.rollback(name),
    ):
        with pytest.raises(DeclarationError, match="a name is"):
            ask()
