"""The small language model as a model handler, on a CPU."""

import sluice
from language_model import LanguageModel


@sluice.model_handler
class TextModel:
    def load_model(self) -> None:
        self.language_model = LanguageModel.load(self.files["model.npz"])

    def predict(self, df: sluice.DataFrame) -> dict[str, list]:
        rows = df.to_arrow().to_pylist()
        return {
            "text": [
                self.language_model.generate(row["prompt"], row["max_tokens"] or 0, row["temperature"] or 0.0, row["seed"] or 0)
                for row in rows
            ]
        }
