"""all-MiniLM-L6-v2 on a CPU: a forward pass in NumPy (examples/minilm/embed.py), float32."""

import pyarrow as pa
import sluice
from embed import WIDTH
from embed import MiniLM as Encoder


@sluice.model_handler
class MiniLM:
    def load_model(self) -> None:
        self.encoder = Encoder(self.artifact_path)

    def predict(self, df: sluice.DataFrame) -> dict[str, pa.Array]:
        vectors = self.encoder.encode(df.to_arrow()["text"].to_pylist())
        ends = pa.array(range(0, vectors.size + 1, WIDTH), pa.int32())
        return {"embedding": pa.ListArray.from_arrays(ends, pa.array(vectors.reshape(-1)))}
