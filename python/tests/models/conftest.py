import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "zoo")]


@pytest.fixture
def lay(tmp_path):
    """Packages a model and lays it out in a new folder: ``lay(model, inputs, outputs, **options)``."""
    from replicas import Laid

    return lambda *args, **options: Laid(Path(tempfile.mkdtemp(dir=tmp_path)), *args, **options)
