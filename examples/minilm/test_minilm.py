"""The model against known values, and the demo's two scripts end to end on a handful of rows."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

HERE = Path(__file__).parent


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"minilm_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


embed_module = load("embed")


def encode(texts: list[str]) -> np.ndarray:
    return np.asarray(embed_module.embed(texts), np.float32)


def test_similarity_is_what_sentence_transformers_gives():
    a, b, c = encode(["A man is eating food.", "A man is eating a piece of bread.", "A monkey is playing drums."])
    assert a @ b == pytest.approx(0.755, abs=0.005)
    assert a @ c < 0.1


def test_rows_are_unit_vectors_of_384_float32():
    vectors = embed_module.model().encode(["one", "two words", ""])
    assert vectors.shape == (3, 384) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_no_rows_make_no_vectors():
    assert len(embed_module.embed([])) == 0


def test_a_row_does_not_depend_on_its_batch():
    texts = [f"sentence {i} " + "and so on " * (i % 40) for i in range(70)]
    together = encode(texts)
    alone = np.concatenate([encode([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=2e-5)


def declared(file: str) -> dict:
    """What `sluice deploy` reads of the file's one function."""
    command = [sys.executable, "-m", "sluice.manifest", HERE / file]
    (function,) = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["functions"]
    return function


def test_the_gpu_version_is_declared_without_torch_and_changes_nobodys_calls():
    here, there = declared("embed.py"), declared("embed_gpu.py")
    assert [there[key] for key in ("name", "inputs", "output")] == [here[key] for key in ("name", "inputs", "output")]
    assert there["resources"] == {"cpu": 2, "memory_bytes": 4 * 2**30, "gpu": "nvidia-l4"}
    assert (there["max_batching_size"], there["max_buffer_duration"], there["retry"]["retries"]) == (1024, 50, 3)
    assert there["environment"]["base"] == "python:3.12-slim"
    assert there["environment"]["steps"] == [{"run": "pip install sentence-transformers"}]
    assert [source["path"] for source in there["source"]] == ["embed_gpu.py"]


def test_text_beyond_256_tokens_is_cut():
    long = "word " * 5000
    cut, longer, other = encode([long, long + "tail", "tail " + long])
    np.testing.assert_array_equal(cut, longer)
    assert np.abs(cut - other).max() > 1e-3


def test_gelu_is_near_the_exact_one():
    from math import erf, sqrt

    x = np.linspace(-12, 12, 20_001, dtype=np.float32)
    exact = np.array([v * (1 + erf(v / sqrt(2))) / 2 for v in x.tolist()], np.float32)
    np.testing.assert_allclose(embed_module.gelu(x.copy().reshape(3, -1)).ravel(), exact, atol=4e-5)


def test_documents_then_search(tmp_path):
    docs, embeddings = tmp_path / "docs.parquet", tmp_path / "embeddings.parquet"
    subprocess.run([sys.executable, HERE / "documents.py", "--output", docs, "--limit", "64"], check=True)
    table = pq.read_table(docs)
    assert table.num_rows == 64
    assert table["id"].to_pylist() == list(range(64))
    assert all(text.strip() for text in table["text"].to_pylist())
    vectors = encode(table["text"].to_pylist())
    pq.write_table(pa.table({"result": pa.array(list(vectors), pa.list_(pa.float32()))}), embeddings)
    wanted = table["name"][10].as_py()
    query = table["text"][10].as_py()
    flags = ["--local", "--docs", docs, "--embeddings", embeddings, "--count", "1"]
    command = [sys.executable, HERE / "search.py", *flags, query]
    told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=HERE).stdout
    assert f"1.000  {wanted}" in told


def test_documents_are_the_same_every_time():
    documents = load("documents").documents
    import sysconfig

    stdlib = Path(sysconfig.get_paths()["stdlib"])
    few = documents(stdlib, 500)
    assert few.equals(documents(stdlib, 500))
    assert len(set(few["name"].to_pylist())) == 500
    assert not [name for name in few["name"].to_pylist() if name.startswith("test.")]
