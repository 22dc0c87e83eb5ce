"""all-MiniLM-L6-v2 in torch on CUDA. Where there is no CUDA device it says so in its log and runs on the CPU."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import sluice
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch.nn import functional

TOKENS_MAX = 256  # sentence-transformers cuts texts there for this model
TOKENS_PER_STEP = 65_536  # of a step with its padding; activations take about 40 KiB a token
HEADS, WIDTH, LAYERS = 12, 384, 6


def device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    reason = "torch was built without CUDA" if torch.version.cuda is None else "torch sees no CUDA device"
    print(
        f"all-minilm-l6-v2: {reason}, so the model runs on the CPU; the variant without --gpu is smaller and made for that",
        file=sys.stderr,
    )
    return "cpu"


class Encoder:
    """A BERT encoder of six layers, mean pooling and L2 normalisation; half precision on CUDA, float32 on a CPU."""

    def __init__(self, folder: Path):
        self.device = device()
        self.kind = torch.float16 if self.device == "cuda" else torch.float32
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_length=TOKENS_MAX)
        weights = load_file(folder / "model.safetensors", device=self.device)
        self.weights = {name: w.to(self.kind) for name, w in weights.items() if w.is_floating_point()}

    def encode(self, texts: list[str]) -> np.ndarray:
        """Texts of any length in, float32 of shape (texts, 384) out, every row of length 1."""
        tokens = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        vectors = np.empty((len(tokens), WIDTH), np.float32)
        for rows in steps(tokens):
            vectors[rows] = self.forward([tokens[i] for i in rows])
        return vectors

    @torch.inference_mode()
    def forward(self, tokens: list[list[int]]) -> np.ndarray:
        longest = max(map(len, tokens))
        ids = torch.tensor([text + [0] * (longest - len(text)) for text in tokens], device=self.device)
        mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in tokens], device=self.device)
        w = self.weights
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][:longest]
        x = self.normalise(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for layer in range(LAYERS):
            at = f"encoder.layer.{layer}"
            mixed = self.attend(x, mask.bool()[:, None, None, :], at)
            x = self.normalise(x + self.linear(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
            inner = functional.gelu(self.linear(x, f"{at}.intermediate.dense"))
            x = self.normalise(x + self.linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
        # The sum of 256 tokens and its length in float32: half precision has three digits.
        pooled = (x.float() * mask[:, :, None]).sum(1)
        return functional.normalize(pooled, dim=1).cpu().numpy()

    def attend(self, x: torch.Tensor, visible: torch.Tensor, at: str) -> torch.Tensor:
        texts, longest, _ = x.shape

        def heads(name: str) -> torch.Tensor:
            projected = self.linear(x, f"{at}.attention.self.{name}")
            return projected.view(texts, longest, HEADS, WIDTH // HEADS).transpose(1, 2)

        mixed = functional.scaled_dot_product_attention(heads("query"), heads("key"), heads("value"), attn_mask=visible)
        return mixed.transpose(1, 2).reshape(texts, longest, WIDTH)

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def normalise(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(x, (WIDTH,), self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], 1e-12)


def steps(tokens: list[list[int]]) -> list[list[int]]:
    """Rows, longest first, in runs of at most TOKENS_PER_STEP tokens with their padding."""
    cuts: list[list[int]] = []
    for row in sorted(range(len(tokens)), key=lambda i: len(tokens[i]), reverse=True):
        if not cuts or (len(cuts[-1]) + 1) * len(tokens[cuts[-1][0]]) > TOKENS_PER_STEP:
            cuts.append([])
        cuts[-1].append(row)
    return cuts


@sluice.model_handler
class MiniLM:
    def load_model(self) -> None:
        self.encoder = Encoder(self.artifact_path)

    def predict(self, df: sluice.DataFrame) -> dict[str, pa.Array]:
        vectors = self.encoder.encode(df.to_arrow()["text"].to_pylist())
        ends = pa.array(range(0, vectors.size + 1, WIDTH), pa.int32())
        return {"embedding": pa.ListArray.from_arrays(ends, pa.array(vectors.reshape(-1)))}
