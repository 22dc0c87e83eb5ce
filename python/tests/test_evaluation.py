"""Parts of sluice.evaluation that need no server: classes that a model names, limits, and reports."""

import numpy as np
import pyarrow as pa
import pytest
from sluice.evaluation import EvaluationError
from sluice.evaluation.answers import parsed_answers
from sluice.evaluation.class_answers import ClassAnswers
from sluice.evaluation.classes import ABSENT, ClassCodes
from sluice.evaluation.classification import classification_figures
from sluice.evaluation.errors import Failures
from sluice.evaluation.report import Evaluation


def gathered(labels, answers, *, classes=None, model_classes=None, is_text=False):
    truth = ClassCodes("labels")
    codes = truth.encode(pa.array(labels))
    failures = Failures("rows")
    found = ClassAnswers(truth, codes, is_text=is_text, classes=classes, model_classes=model_classes, failures=failures)
    found.add(np.arange(len(labels)), pa.array(answers))
    return found.classified()


SCORES = [[0.1, 0.7, 0.2], [0.8, 0.1, 0.1], [0.1, 0.2, 0.7]]
NAMES = ["dog", "cat", "eel"]


@pytest.mark.parametrize(
    ("labels", "answers", "is_text"),
    [
        (["cat", "dog", "eel"], SCORES, False),
        ([1, 0, 2], SCORES, False),
        (["cat", "dog", "eel"], SCORES, True),
        (["cat", "dog", "eel"], [1, 0, 2], False),
    ],
    ids=["names", "indices", "names of a text file", "answers are indices"],
)
def test_a_model_says_in_which_order_its_classes_are(labels, answers, is_text):
    found = gathered(labels, answers, model_classes=NAMES, is_text=is_text)
    figures, _, _ = classification_figures(found)
    assert figures.values["accuracy"] == 1
    assert set(found.classes) == set(labels)


def test_an_index_beyond_the_models_labels_is_refused():
    with pytest.raises(EvaluationError, match="hold 7, and the model has 3 class labels"):
        gathered(["cat"], [7], model_classes=NAMES)


def test_answers_of_another_kind_are_refused_where_they_begin():
    truth = ClassCodes("labels")
    found = ClassAnswers(
        truth, truth.encode(pa.array([1, 2])), is_text=False, classes=None, model_classes=None, failures=Failures("rows")
    )
    found.add(np.array([0]), pa.array([1]))
    with pytest.raises(EvaluationError, match="the answers are classes, and from row 1 on lists of scores"):
        found.add(np.array([1]), pa.array([[0.1, 0.9]]))


def test_scores_beyond_the_limit_are_not_kept_and_the_classes_are(monkeypatch):
    monkeypatch.setattr("sluice.evaluation.class_answers.SCORES_MAX", 8)
    found = gathered(["a", "b", "a"], SCORES, classes=["b", "a", "c"])
    figures, _, _ = classification_figures(found)
    assert figures.values["accuracy"] == pytest.approx(1 / 3 * 2)
    assert figures.reasons["log_loss"] == "3 rows of 3 scores are more than the 8 numbers that are kept"


def test_codes_are_those_of_the_first_coming_and_absent_for_null():
    codes = ClassCodes("labels")
    dictionary = pa.array(["b", None, "a", "b"]).dictionary_encode()
    assert codes.encode(dictionary).tolist() == [0, ABSENT, 1, 0]
    assert codes.encode(pa.chunked_array([["a"], ["c"]])).tolist() == [1, 2]
    assert codes.encode(pa.nulls(2)).tolist() == [ABSENT, ABSENT]
    with pytest.raises(EvaluationError, match="labels are texts and whole numbers; make them one type"):
        codes.encode(pa.array([1]))


def test_a_report_of_many_classes_is_short_and_its_json_is_whole():
    classes = [{"class": name, "precision": None, "recall": 0.5, "f1": 0.5, "labels": 1, "answers": 0} for name in range(60)]
    confusion = [[0] * 60 for _ in range(60)]
    found = Evaluation("classification", "f", {"accuracy": None}, {"rows": 60}, {"accuracy": "why"}, classes, confusion)
    assert "… and 20 more classes" in str(found)
    assert "label \\ answer" not in str(found)
    assert "accuracy  –  (why)" in str(found)
    assert len(found.to_dict()["confusion"]) == 60


@pytest.mark.parametrize(
    "texts",
    [["1", str(10**400)], [f"[{2**64}]"], ["[" * 100_000 + "]" * 100_000], ["1", '"x"']],
    ids=["a number beyond floats", "an integer in a list", "lists without end", "two types"],
)
def test_json_answers_that_no_column_holds_are_an_error_of_the_answers(texts):
    with pytest.raises(EvaluationError, match="the answers are JSON of"):
        parsed_answers(pa.array(texts))
