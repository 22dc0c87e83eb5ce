"""The small model learns and is served as it runs at home; the large one's image has what it needs."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import sluice

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import deploy  # noqa: E402
from language_model import LanguageModel  # noqa: E402
from text_model import TextModel  # noqa: E402


@pytest.fixture(scope="module")
def texts() -> tuple[str, str]:
    """What is learned from, and what is not."""
    pieces = deploy.docstrings(600).split("\n\n")
    return "\n\n".join(piece for i, piece in enumerate(pieces) if i % 10), "\n\n".join(pieces[::10])


@pytest.fixture(scope="module")
def model(texts) -> LanguageModel:
    return LanguageModel.train(texts[0])


def test_it_learns_what_it_has_not_seen(model, texts):
    unseen = texts[1][:4000]
    counts = np.bincount(np.frombuffer(unseen.encode("ascii", "ignore"), np.uint8))
    share = counts[counts > 0] / counts.sum()
    of_bytes_alone = float(-(share * np.log2(share)).sum())
    assert model.bits_per_byte(unseen) < of_bytes_alone - 1.5


def test_probabilities_are_a_distribution(model):
    for context in (b"", b"Return a lis", b"\x01\x02", b"x" * 40):
        probabilities = model.distribution(context)
        assert probabilities.sum() == pytest.approx(1)
        assert probabilities.min() > 0
    assert chr(model.distribution(b"Return a lis").argmax()) == "t"


def test_the_same_seed_writes_the_same_text_whatever_else_is_in_the_batch(model, tmp_path):
    model.save(tmp_path / "model.npz")
    served = TextModel(files=[tmp_path / "model.npz"])
    served.load_model()
    prompts = ["Return the", "Raise a", "Return the"]
    rows = {"prompt": prompts, "max_tokens": [30, 5, 30], "temperature": [0.7] * 3, "seed": [1, 2, 1]}
    first, second, third = served.predict(sluice.DataFrame.from_arrow(pa.table(rows)))["text"]
    assert first == third == model.generate("Return the", 30, 0.7, 1)
    assert len(second) == 5
    assert model.generate("Return the", 30, 0.7, 3) != first


def test_no_text_is_refused():
    with pytest.raises(ValueError, match="no ASCII characters"):
        LanguageModel.train("\0")


def test_the_image_of_the_large_model_has_the_handler():
    image = deploy.vllm_image()
    recipe = image.containerfile()
    assert recipe.startswith(f"FROM {deploy.VLLM_IMAGE}\n") or f"\nFROM {deploy.VLLM_IMAGE}\n" in recipe
    assert "/app/handler/vllm_model.py" in recipe
    assert "pyarrow>=17" in recipe
    assert [Path(path) for path in image.context().values()] == [HERE / "vllm_model.py"]
    import vllm_model

    assert callable(vllm_model.handler) and callable(vllm_model.on_startup)
