"""The same function for a machine with a GPU, with sentence-transformers; the name, inputs and outputs are those of
embed.py, so deploying it makes a new version of ``embed`` and nobody's calls change."""

import functools

import pyarrow as pa
import sluice


@functools.cache
def model():
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer("all-MiniLM-L6-v2", device="cuda")


@sluice.function(
    name="embed",
    image=sluice.Image.base("python:3.12-slim").run_commands("pip install sentence-transformers"),
    cpu=2,
    memory="4Gi",
    gpu="nvidia-l4",
    max_batching_size=1024,
    max_buffer_duration=50,
    retries=3,
    on_startup=model,
    output_type=pa.list_(pa.float32()),
)
def embed(text: list[str]) -> list[list[float]]:
    return model().encode(text, batch_size=256, normalize_embeddings=True)
