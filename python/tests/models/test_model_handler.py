"""@model_handler at home: construction, files, loading, and what is refused."""

from pathlib import Path

import classes
import numpy as np
import pyarrow as pa
import pytest
from sluice import DataFrame, DeclarationError, model_handler
from sluice.models.construction import fields_of
from sluice.models.handler import ARTIFACT_PATH, is_handler

ROWS = DataFrame({"x": pa.array([1.0, 2.0])})


def test_a_class_works_at_home_without_a_server(tmp_path):
    (tmp_path / "offset.txt").write_text("10")
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "a.txt").write_text("hello")
    handler = classes.FromFiles(files=[tmp_path / "offset.txt", str(tmp_path / "words")])
    assert dict(handler.files) == {"offset.txt": tmp_path / "offset.txt", "words": tmp_path / "words"}
    handler.load_model()
    answer = handler.predict(ROWS)
    assert answer["y"].tolist() == [11.0, 12.0]
    assert answer["word"] == ["hello", "hello"]


def test_what_a_class_gets():
    handler = classes.Price()
    assert (handler.model, dict(handler.files), handler.artifact_path) == (None, {}, ARTIFACT_PATH)
    handler.load_model()
    assert handler.model is None
    assert is_handler(handler) and is_handler(classes.Price) and not is_handler(classes.Doubler())
    model = classes.Doubler()
    handler = classes.Price(model, [], "/elsewhere")
    handler.load_model()
    assert (handler.model, handler.artifact_path) == (model, Path("/elsewhere"))


def test_annotated_attributes_are_arguments():
    assert fields_of(classes.Scaled) == ["factor"]
    assert classes.Scaled(factor=2.5).predict(ROWS)["y"].tolist() == [2.5, 5.0]
    assert classes.Scaled().predict(ROWS)["y"].tolist() == [1.0, 2.0]
    with pytest.raises(TypeError, match="Scaled takes no argument 'factr'; it takes model, files, artifact_path, factor"):
        classes.Scaled(factr=2)

    @model_handler
    class Needy:
        size: int

        def predict(self, df):
            return df

    with pytest.raises(TypeError, match="Needy needs size="):
        Needy()


def test_a_constructor_of_its_own_stays():
    @model_handler
    class Own:
        def __init__(self, depth=3):
            self.depth = depth

        def predict(self, df):
            return {"y": [self.depth] * len(df)}

    handler = Own(depth=4)
    handler.load_model()
    assert (handler.predict(ROWS), handler.model, dict(handler.files)) == ({"y": [4, 4]}, None, {})


def test_an_override_may_call_the_default():
    handler = classes.Counted(model=classes.Doubler())
    handler.load_model()
    np.testing.assert_array_equal(handler.predict(ROWS), [2.0, 4.0])


def test_what_is_no_handler_is_refused():
    with pytest.raises(DeclarationError, match=r"Empty has no method predict\(self, df\)"):

        @model_handler
        class Empty:
            pass

    with pytest.raises(DeclarationError, match="it takes a class"):
        model_handler(lambda df: df)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ("weights.bin", "files is 'weights.bin'; it takes a list of paths"),
        ([1], "files has 1; it takes paths"),
        (["a/w.bin", "b/w.bin"], "both named w.bin"),
    ],
)
def test_files_have_names_of_their_own(files, said):
    with pytest.raises(DeclarationError, match=said):
        classes.Price(files=files)
