"""sluice.evaluate against the real server: figures beside scikit-learn's own, tables and answers of each kind, refusals."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import sluice
from server_process import HANDLERS, ROOT, Server
from sklearn import metrics

RANDOM = np.random.default_rng(20261121)
ROWS = 9000
"""More than two chunks."""


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    server = Server(["dev", "--data", str(tmp_path_factory.mktemp("evaluation") / "data")])
    try:
        sluice.deploy(HANDLERS / "evaluated.py", url=server.url)
        yield server.url
    finally:
        server.stop()


@pytest.fixture
def evaluate(url):
    return lambda target, data, **options: sluice.evaluate(target, data, url=url, **options)


@pytest.fixture(scope="module")
def houses():
    sqft, rooms = RANDOM.uniform(300, 4000, ROWS), RANDOM.integers(0, 9, ROWS)
    price = 180 * sqft + 9000 * rooms + RANDOM.normal(0, 20_000, ROWS)
    return pa.table({"sqft": sqft, "rooms": rooms, "price": price, "unused": [None] * ROWS})


def prices_beside(houses):
    """Labels and answers of the rows that the function takes: those with rooms."""
    sqft, rooms, price = (houses[name].to_numpy() for name in ("sqft", "rooms", "price"))
    return price[rooms > 0], (180 * sqft + 9000 * rooms)[rooms > 0]


def test_regression_has_the_figures_of_scikit_learn_and_counts_what_failed(evaluate, houses):
    found = evaluate("price", houses, labels="price", task="regression")
    labels, answers = prices_beside(houses)
    assert found.figures == {
        "mae": pytest.approx(metrics.mean_absolute_error(labels, answers)),
        "rmse": pytest.approx(metrics.root_mean_squared_error(labels, answers)),
        "median_absolute_error": pytest.approx(metrics.median_absolute_error(labels, answers)),
        "mape": pytest.approx(metrics.mean_absolute_percentage_error(labels, answers)),
        "r2": pytest.approx(metrics.r2_score(labels, answers)),
        "explained_variance": pytest.approx(metrics.explained_variance_score(labels, answers)),
    }
    assert found.counts == {"rows": ROWS, "evaluated": len(labels), "failed": ROWS - len(labels), "unlabelled": 0}
    roomless = np.flatnonzero(houses["rooms"].to_numpy() == 0)
    assert [one["row"] for one in found.failures] == roomless[:5].tolist()
    assert found.failures[0]["code"] == "row_error"
    assert "a house has rooms" in str(found)


@pytest.mark.parametrize("write", ["parquet", "csv", "tsv", "arrow"])
def test_files_are_read_in_chunks_and_have_the_same_figures(evaluate, houses, tmp_path, write):
    file = tmp_path / f"houses.{write}"
    if write == "parquet":
        pq.write_table(houses, file, row_group_size=5000)
    elif write == "arrow":
        with pa.ipc.new_file(file, houses.schema) as sink:
            sink.write_table(houses, max_chunksize=5000)
    else:
        csv.write_csv(houses, file, csv.WriteOptions(delimiter="\t" if write == "tsv" else ","))
    found = evaluate("price", file, labels="price", task="regression")
    labels, answers = prices_beside(houses)
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(labels, answers))
    assert found.counts["rows"] == ROWS


def test_tables_may_be_of_any_library(evaluate):
    columns = {"sqft": [1.0, 2.0], "rooms": [1, 1], "price": [9180, 9361]}
    for table in (columns, pa.table(columns), pa.RecordBatch.from_pydict(columns), pd.DataFrame(columns), pl.DataFrame(columns)):
        assert evaluate("price", table, labels="price", task="regression")["mae"] == 0.5, type(table)


def test_columns_are_renamed_and_targets_are_handles_too(evaluate, url):
    table = {"area": [1.0], "sqft": [77.0], "n": [1.0], "price": [9180.0]}
    function = sluice.Remote(url).function("price")
    assert evaluate(function, table, labels="price", task="regression", inputs={"sqft": "area", "rooms": "n"})["mae"] == 0


def test_classification_has_the_figures_of_scikit_learn(evaluate):
    length, width = RANDOM.uniform(0.1, 10, ROWS), RANDOM.uniform(0.1, 10, ROWS)
    scores = np.column_stack([width, length, np.ones(ROWS)]) / (length + width + 1)[:, None]
    classes = np.array(["large", "long", "wide"])
    labels = classes[(scores + RANDOM.gumbel(0, 0.1, scores.shape)).argmax(axis=1)]
    answers = classes[scores.argmax(axis=1)]
    table = {"length": length, "width": width, "kind": labels}
    found = evaluate("species", table, labels="kind", task="classification")
    report = metrics.classification_report(labels, answers, output_dict=True, zero_division=0)
    macro = report["macro avg"]
    assert found.figures == {
        "accuracy": pytest.approx(metrics.accuracy_score(labels, answers)),
        "balanced_accuracy": pytest.approx(metrics.balanced_accuracy_score(labels, answers)),
        "precision_macro": pytest.approx(macro["precision"]),
        "recall_macro": pytest.approx(macro["recall"]),
        "f1_macro": pytest.approx(macro["f1-score"]),
        "log_loss": pytest.approx(metrics.log_loss(labels, scores)),
        "roc_auc": pytest.approx(metrics.roc_auc_score(labels, scores, multi_class="ovr")),
    }
    assert found.confusion == metrics.confusion_matrix(labels, answers).tolist()
    for row in found.classes:
        beside = report[row["class"]]
        assert (row["recall"], row["f1"], row["labels"]) == pytest.approx(
            (beside["recall"], beside["f1-score"], beside["support"])
        )
    assert json.loads(json.dumps(found.to_dict()))["classes"][0]["class"] == "large"


def test_classes_are_answered_as_texts_with_one_that_no_label_has_and_one_that_no_answer_has(evaluate):
    labels, answers = ["a", "a", "b", "c"], ["a", "b", "b", "z"]
    found = evaluate("echo.text", {"answer": answers, "y": labels}, labels="y", task="classification")
    assert found["accuracy"] == 0.5
    with pytest.warns(UserWarning, match="not in y_true"):
        assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, answers))
    assert found["f1_macro"] == pytest.approx(metrics.f1_score(labels, answers, average="macro", zero_division=0))
    by_class = {row["class"]: row for row in found.classes}
    assert (by_class["z"]["recall"], by_class["z"]["precision"]) == (None, 0)
    assert (by_class["c"]["recall"], by_class["c"]["precision"]) == (0, None)
    assert found.confusion == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert "without scores" in found.reasons["roc_auc"]
    assert found.notes == ["no label is 'z', which answers are"]


def test_a_number_is_the_probability_of_the_second_class(evaluate):
    labels = RANDOM.integers(0, 2, 500)
    answers = np.clip(0.3 * labels + RANDOM.uniform(0, 0.7, 500), 0, 1)
    for y in (labels, labels.astype(bool), np.array(["no", "yes"])[labels]):
        found = evaluate("echo.number", {"answer": answers, "y": y}, labels="y", task="classification")
        assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, answers > 0.5))
        assert found["log_loss"] == pytest.approx(metrics.log_loss(labels, answers))
        assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(labels, answers))
    turned = {"answer": 1 - answers, "y": np.array(["no", "yes"])[labels]}
    found = evaluate("echo.number", turned, labels="y", task="classification", classes=["yes", "no"])
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, answers > 0.5))


def test_numbers_are_classes_where_models_answer_classes_as_floats(evaluate):
    labels, answers = [1, 2, 3, 3], [1.0, 2.0, 3.0, 1.0]
    assert evaluate("echo.number", {"answer": answers, "y": labels}, labels="y", task="classification")["accuracy"] == 0.75
    with_gaps = pd.DataFrame({"answer": answers, "y": [1, None, 3, 3]})  # which makes the labels floats
    found = evaluate("echo.number", with_gaps, labels="y", task="classification")
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found.counts["unlabelled"] == 1


def test_scores_are_fields_of_a_struct_or_a_field_is_the_class(evaluate):
    rows = [{"cat": 0.9, "dog": 0.1}, {"cat": 0.4, "dog": 0.6}, {"cat": 0.2, "dog": 0.8}]
    answer = pa.array(rows, pa.struct([("cat", pa.float64()), ("dog", pa.float64())]))
    found = evaluate("echo.scores", {"answer": answer, "y": ["cat", "cat", "dog"]}, labels="y", task="classification")
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.8]).mean())
    assert found["roc_auc"] == 1
    kind = pa.struct([("a", pa.float64()), ("b", pa.float64()), ("label", pa.string())])
    record = pa.array([{"a": 1.0, "b": 3.0, "label": "x"}], kind)
    table = {"answer": record, "y": ["x"], "number": [2.0]}
    assert evaluate("echo.record", table, labels="y", task="classification", answer="label")["accuracy"] == 1
    assert evaluate("echo.record", table, labels="number", task="regression", answer="b")["mae"] == 1


def test_functions_of_any_columns_answer_json(evaluate):
    for answers, labels, task, figure, value in [
        (["a", "b"], ["a", "a"], "classification", "accuracy", 0.5),
        ([1, 2.5], [1, 2], "regression", "mae", 0.25),
        ([[0.5, 0.5], [0, 1]], ["a", "b"], "classification", "log_loss", np.log(2) / 2),
        ([[3], [5]], [3, 4], "regression", "mae", 0.5),
    ]:
        table = pa.table({"answer": pa.array(answers), "y": pa.array(labels)})
        assert evaluate("echo.table", table, labels="y", task=task)[figure] == pytest.approx(value), answers


def test_scores_that_are_no_probabilities_have_an_area_and_no_log_loss(evaluate):
    labels = RANDOM.integers(0, 2, 200)
    decision = RANDOM.normal(labels, 1)
    table = {"answer": [[-one, one] for one in decision], "y": labels}
    found = evaluate("echo.list", table, labels="y", task="classification")
    assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(labels, decision))
    assert found["log_loss"] is None
    assert "some are negative" in found.reasons["log_loss"]


def test_retrieval_is_as_counted_by_hand(evaluate):
    documents = {"id": ["x", "y", "z", "w"], "text": ["aaab", "bbbc", "cccd", "ddde"]}
    queries = {"text": ["aab", "bc", "e", "abcde", ""], "relevant": [["x"], ["y", "z"], ["x", "w"], None, ["x"]]}
    found = evaluate("letters", queries, labels="relevant", task="retrieval", documents=documents, k=[1, 2])
    # aab finds x first. bc: y at 4/√20, z at 3/√20, then x. e: w alone is near; the other three tie at 0, on rank 4.
    gains = 1 / np.log2([2, 3])
    assert found.figures == {
        "recall@1": pytest.approx((1 + 1 / 2 + 1 / 2) / 3),
        "recall@2": pytest.approx((1 + 1 + 1 / 2) / 3),
        "precision@1": pytest.approx(1),
        "precision@2": pytest.approx((1 / 2 + 1 + 1 / 2) / 3),
        "ndcg@1": pytest.approx(1),
        # scikit-learn gives each of three tied documents a third of the gain of what one of them has.
        "ndcg@2": pytest.approx((1 + 1 + (gains[0] + gains[1] / 3) / gains.sum()) / 3),
        "mrr": pytest.approx(1),
        "map": pytest.approx((1 + 1 + (1 + 2 / 4) / 2) / 3),
    }
    assert found.counts == {
        "queries": 5,
        "evaluated": 3,
        "failed": 1,
        "unlabelled": 1,
        "documents": 4,
        "documents_failed": 0,
    }
    assert found.failures[0]["row"] == 4
    assert "zero" in found.failures[0]["message"]


def test_retrieval_has_the_figures_of_scikit_learn_over_all_documents(evaluate, monkeypatch):
    monkeypatch.setattr("sluice.evaluation.retrieval.BLOCK_SCORES", 7 * 600)
    documents, queries = RANDOM.normal(size=(600, 8)), RANDOM.normal(size=(50, 8))
    relevant = [np.sort(RANDOM.choice(600, RANDOM.integers(1, 6), replace=False)) for _ in queries]
    cosines = queries @ documents.T / np.linalg.norm(queries, axis=1)[:, None] / np.linalg.norm(documents, axis=1)
    truth = np.zeros(cosines.shape, bool)
    for row, ids in zip(truth, relevant, strict=True):
        row[ids] = True
    library = {"number": np.arange(600) * 10, "answer": list(documents)}
    table = {"answer": list(queries), "relevant": [(ids * 10).tolist() for ids in relevant]}
    found = evaluate("echo.list", table, labels="relevant", task="retrieval", documents=library, id="number", k=20)
    ranked = np.take_along_axis(truth, np.argsort(-cosines, axis=1), axis=1)
    hits = ranked[:, :20].sum(axis=1)
    assert found.figures == {
        "recall@20": pytest.approx((hits / truth.sum(axis=1)).mean()),
        "precision@20": pytest.approx(hits.mean() / 20),
        "ndcg@20": pytest.approx(metrics.ndcg_score(truth, cosines, k=20)),
        "mrr": pytest.approx((1 / (1 + ranked.argmax(axis=1))).mean()),
        "map": pytest.approx(metrics.label_ranking_average_precision_score(truth, cosines)),
    }


def test_equal_vectors_find_nothing_by_the_order_of_the_table(evaluate):
    documents = {"id": list(range(50)), "answer": [[0.1, 0.7, 0.3]] * 50}
    queries = {"answer": [[0.3, 0.1, 0.9]] * 3, "relevant": [0, 25, 49]}
    found = evaluate("echo.list", queries, labels="relevant", task="retrieval", documents=documents, k=[10])
    assert (found["recall@10"], found["mrr"], found["map"]) == (0, 0.02, pytest.approx(0.02))


def test_a_document_that_fails_is_no_part_of_the_figures(evaluate):
    documents = {"id": ["x", "y"], "answer": [[1.0, 0.0], [0.0, 0.0]]}
    queries = {"answer": [[1.0, 0.1]] * 2, "relevant": [["x", "y"], ["y"]]}
    found = evaluate("echo.list", queries, labels="relevant", task="retrieval", documents=documents, k=1)
    assert found["recall@1"] == 1
    assert (found.counts["evaluated"], found.counts["documents_failed"]) == (1, 1)
    assert len(found.notes) == 2


TEXT_FILES = [
    ("echo.whole", "answer,y\n1,1\n2,1\n10,10\n", "accuracy", 2 / 3),
    ("echo.text", "answer,y\n01,01\nNA,NA\nNA,1\nnull,\n", "accuracy", 2 / 3),
    ("echo.number", "answer,y\n0.9,1\n0.2,0\n0.7,0\n0.6,\n", "roc_auc", 1),
    ("echo.number", "answer,y\n0.9,yes\n0.2,no\n", "accuracy", 1),
]


@pytest.mark.parametrize(("function", "text", "figure", "value"), TEXT_FILES)
def test_labels_of_text_files_take_the_type_of_the_answers(evaluate, tmp_path, function, text, figure, value):
    file = tmp_path / "labelled.csv"
    file.write_text(text)
    found = evaluate(function, str(file), labels="y", task="classification")
    assert found[figure] == pytest.approx(value)


def test_ids_of_text_files_are_texts_and_several_are_a_json_list(evaluate, tmp_path):
    documents, queries = tmp_path / "documents.csv", tmp_path / "queries.csv"
    documents.write_text("id,text\n1,aa\n2,bb\n3,cc\n")
    queries.write_text('text,relevant\nab,"[1, ""2""]"\nc,3\nb,\n')
    found = evaluate("letters", queries, labels="relevant", task="retrieval", documents=documents, k=2)
    assert (found["recall@2"], found.counts["unlabelled"]) == (1, 1)


UNDEFINED = [
    ("echo.number", [0.5, 0.7], [1, 1], "classification", "roc_auc", "every label is 1"),
    ("echo.list", [[0.2, 0.8], [0.6, 0.4]], ["b", "a"], "classification", None, None),
    ("echo.number", [1.0, 2.0], [0.0, 2.0], "regression", "mape", "1 labels are 0"),
    ("echo.number", [1.0], [3.0], "regression", "r2", "one row"),
    ("echo.number", [1.0, 2.0], [3.0, 3.0], "regression", "r2", "all labels are the same"),
    ("echo.number", [1.0, 1e308], [3.0, -1e308], "regression", "rmse", "beyond what a float64 holds"),
]


@pytest.mark.parametrize(("function", "answers", "labels", "task", "figure", "reason"), UNDEFINED)
def test_a_figure_that_is_not_defined_is_null_and_says_why(evaluate, function, answers, labels, task, figure, reason):
    found = evaluate(function, {"answer": answers, "y": labels}, labels="y", task=task)
    assert {name for name, value in found.figures.items() if value is None} >= ({figure} if figure else set())
    assert set(found.reasons) == {name for name, value in found.figures.items() if value is None}
    if figure:
        assert reason in found.reasons[figure]
        assert reason in str(found)
        assert found.to_dict()["figures"][figure] is None


def test_a_class_that_only_labels_have_leaves_scores_without_their_figures(evaluate):
    table = {"answer": [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], "y": ["a", "b", "c"]}
    found = evaluate("echo.list", table, labels="y", task="classification", classes=["a", "b"])
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert "no score for 'c'" in found.reasons["log_loss"]
    assert "no score for 'c'" in found.reasons["roc_auc"]
    table = {"answer": [[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]], "y": ["a", "b"]}
    found = evaluate("echo.list", table, labels="y", task="classification", classes=["a", "b", "c"])
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.8]).mean())
    assert "no label is 'c'" in found.reasons["roc_auc"]


def test_answers_that_are_no_numbers_and_labels_that_are_none_are_counted(evaluate):
    nan, inf = float("nan"), float("inf")
    table = pa.table({"answer": [1.0, nan, None, inf, 5.0, 6.0], "y": [1.0, 2.0, 3.0, 4.0, nan, None]})
    found = evaluate("echo.number", table, labels="y", task="regression")
    assert found.counts == {"rows": 6, "evaluated": 1, "failed": 3, "unlabelled": 2}
    assert [(one["row"], one["code"]) for one in found.failures] == [(1, "no_answer"), (2, "no_answer"), (3, "no_answer")]
    table = {"answer": [[0.4, 0.6], [nan, 0.5], [None, 1.0], None], "y": ["a", "b", "b", "b"]}
    table["answer"] = pa.array(table["answer"], pa.list_(pa.float64()))
    found = evaluate("echo.list", table, labels="y", task="classification")
    assert (found.counts["evaluated"], found.counts["failed"]) == (1, 3)


def test_a_null_input_that_the_function_does_not_take_fails_its_row(evaluate):
    table = pa.table({"sqft": [1.0, None], "rooms": [1.0, 1.0], "price": [9180.0, 1.0]})
    found = evaluate("price", table, labels="price", task="regression")
    assert (found["mae"], found.counts["failed"], found.failures[0]["row"]) == (0, 1, 1)


CLASSES = {"labels": "y", "task": "classification"}
NUMBERS = {"labels": "y", "task": "regression"}
FOUND = {"labels": "y", "task": "retrieval"}
DOCUMENTS = {"id": ["x"], "answer": [[1.0]]}
RECORD = {"a": 1.0, "b": 1.0, "label": ""}
REFUSED = [
    ("echo.text", {"answer": ["a"]}, CLASSES, "no column 'y'"),
    ("echo.text", {"y": ["a"], "z": [1]}, CLASSES, "no column 'answer', which is to hold an input of echo.text"),
    ("echo.text", {"answer": [], "y": []}, CLASSES, "has no rows"),
    ("echo.text", {"answer": ["a"], "y": [None]}, CLASSES, "has no label: 'y' is null"),
    ("echo.text", {"answer": ["a"], "y": [1]}, CLASSES, "labels are whole numbers, as 1, and the answers texts, as 'a'"),
    ("echo.whole", {"answer": [1], "y": [True]}, CLASSES, "labels are booleans, as True, and the answers whole numbers"),
    ("echo.text", {"answer": ["a"], "y": [0.5]}, CLASSES, 'hold 0.5, which is no class; .*task="regression"'),
    ("echo.text", {"answer": ["a"], "y": [["a"]]}, CLASSES, "labels 'y' are list"),
    ("echo.whole", {"answer": [1] * 1001, "y": list(range(1001))}, CLASSES, "more than 1,000 distinct values"),
    ("echo.list", {"answer": [[0.1, 0.2]], "y": ["a"]}, CLASSES, "2 scores a row, and there are 1 classes: 'a'; give classes="),
    ("echo.list", {"answer": [[0.1, 0.2], [1.0]], "y": ["a", "b"]}, CLASSES, "answer of row 1 has 1 numbers, .* have 2"),
    ("echo.list", {"answer": [[], [1.0]], "y": ["a", "b"]}, CLASSES, "answer of row 0 is an empty list"),
    ("echo.list", {"answer": [[0.1, 0.2]], "y": ["a"]}, {**CLASSES, "classes": ["a", "a"]}, "has one twice"),
    ("echo.list", {"answer": [[0.1, 0.2]], "y": [1]}, {**CLASSES, "classes": ["a", "b"]}, "'a' is none of the labels' type"),
    ("echo.number", {"answer": [0.5], "y": ["a"]}, CLASSES, "classes are 'a'; answer a score for each class"),
    ("echo.number", {"answer": [0.5, 7.0], "y": ["a", "b"]}, CLASSES, "7, which is no probability of 'b'"),
    ("echo.record", {"answer": [RECORD], "y": ["a"]}, CLASSES, "answer= names the field"),
    ("echo.record", {"answer": [RECORD], "y": [1]}, NUMBERS, "with answer=, one of a, b, label"),
    ("echo.record", {"answer": [RECORD], "y": [1]}, {**NUMBERS, "answer": "c"}, "structs of a, b, label"),
    ("echo.number", {"answer": [1.0], "y": [1]}, {**NUMBERS, "answer": "c"}, "answer is 'c', and the answers are double"),
    ("echo.text", {"answer": ["a"], "y": [1.0]}, NUMBERS, "answers are string; regression takes one number a row"),
    ("echo.number", {"answer": [1.0], "y": ["a"]}, NUMBERS, 'are string, which are no numbers; .*task="classification"'),
    ("echo.number", {"answer": [1.0, 1.0], "y": [1.0, float("inf")]}, NUMBERS, "label 'y' of row 1 is infinite"),
    ("echo.number", {"answer": [float("nan")], "y": [1.0]}, NUMBERS, "no row was answered.*1 rows failed.*NaN"),
    ("echo.number", {"answer": ["a"], "y": [1.0]}, NUMBERS, "input answer of echo.number takes double, and the table has string"),
    ("echo.number", {"answer": [1.0, "a"], "y": [1, 2]}, NUMBERS, "the table cannot be read: column 'answer'"),
    ("echo.number", [1, 2], NUMBERS, "the table is list; give a pyarrow, pandas or polars table"),
    ("echo.number", "nothing.parquet", NUMBERS, "nothing.parquet is not there"),
    ("echo.number", __file__, NUMBERS, "is no file that can be read here"),
    ("nothing", {"answer": [1.0], "y": [1]}, NUMBERS, "no scaling group and no function named nothing"),
    ("", {"answer": [1.0], "y": [1]}, NUMBERS, "target is ''"),
    ("price", {"sqft": [1.0], "y": [1]}, {**NUMBERS, "inputs": ["sqft"]}, "inputs lack 'rooms', which price needs"),
    ("price", {"sqft": [1.0], "y": [1]}, {**NUMBERS, "inputs": ["area"]}, "has no input 'area'; its inputs are sqft, rooms"),
    ("price", {"sqft": [1.0], "y": [1]}, {**NUMBERS, "inputs": "sqft"}, "give a list of columns"),
    ("price", {"y": [1]}, {"labels": "y", "task": "ranking"}, "task is 'ranking'; it takes one of classification"),
    ("price", {"y": [1]}, {**NUMBERS, "concurrent_chunks": 0}, "concurrent_chunks is 0"),
    ("price", {"y": [1]}, {**NUMBERS, "documents": DOCUMENTS}, "belongs to no other"),
    ("echo.list", {"answer": [[1.0]], "y": ["x"]}, FOUND, "documents is the table of documents"),
    ("echo.list", {"answer": [[1.0]], "y": ["x"]}, {**FOUND, "documents": DOCUMENTS, "k": 0}, "k is 0"),
    ("echo.list", {"answer": [[1.0]], "y": ["x"]}, {**FOUND, "documents": {"answer": [[1.0]]}}, "no column 'id'"),
    ("echo.list", {"answer": [[1.0]], "y": ["q"]}, {**FOUND, "documents": DOCUMENTS}, "of query 0 holds 'q', .* no document"),
    ("echo.list", {"answer": [[1.0]], "y": [7]}, {**FOUND, "documents": DOCUMENTS}, "are whole numbers, as 7, and ids are texts"),
    ("echo.list", {"answer": [[1.0]], "y": [[]]}, {**FOUND, "documents": DOCUMENTS}, "has no label"),
    ("echo.number", {"answer": [1.0], "y": ["x"]}, {**FOUND, "documents": {"id": ["x"], "answer": [1.0]}}, "one list of numbers"),
    (
        "echo.list",
        {"answer": [[1.0, 2.0, 3.0]], "y": ["x"]},
        {**FOUND, "documents": {"id": ["x"], "answer": [[1.0, 2.0]]}},
        "answer of row 0 has 3 numbers, and those before it have 2",
    ),
    *[
        ("echo.list", {"answer": [[1.0, 2.0]], "y": ["x"]}, {**FOUND, "documents": documents}, message)
        for documents, message in [
            ({"id": ["x", "x"], "answer": [[1.0, 2.0]] * 2}, "'x' is there more than once"),
            ({"id": ["x", None], "answer": [[1.0, 2.0]] * 2}, "id of document 1 in the table of documents is null"),
            ({"id": [0.5], "answer": [[1.0, 2.0]]}, "ids are texts or whole numbers"),
            ({"id": [], "answer": []}, "has no rows"),
            ({"id": ["x"], "answer": [[0.0, 0.0]]}, "no row was answered.*zero"),
        ]
    ],
]


@pytest.mark.parametrize(("function", "data", "options", "message"), REFUSED, ids=[message for *_, message in REFUSED])
def test_what_cannot_be_evaluated_is_refused_with_the_reason(evaluate, function, data, options, message):
    with pytest.raises(sluice.EvaluationError, match=message):
        evaluate(function, data, **options)


def test_files_that_break_off_or_change_their_type_are_named(evaluate, tmp_path):
    broken, late, twice = tmp_path / "broken.parquet", tmp_path / "late.csv", tmp_path / "twice.csv"
    broken.write_bytes(b"PAR1 and no more")
    late.write_text("answer,y\n" + "1,1\n" * 10 + "2,many\n")
    twice.write_text("answer,answer,y\n1,1,1\n")
    for file, message in [(broken, "broken.parquet cannot be read"), (late, "late.csv cannot be.*many"), (twice, "two columns")]:
        with pytest.raises(sluice.EvaluationError, match=message):
            evaluate("echo.number", file, labels="y", task="regression")


def test_an_evaluation_that_is_refused_leaves_no_call_behind(evaluate, url):
    answers = [[1.0, 2.0]] * 20_000 + [[1.0]] * 20_000
    with pytest.raises(sluice.EvaluationError, match="answer of row 20000 has 1 numbers"):
        evaluate("echo.list", {"answer": answers, "y": ["a", "b"] * 20_000}, labels="y", task="classification")
    queue = sluice.Remote(url).function("echo.list").show()["queue"]
    assert queue["waiting_rows"] + queue["sealed_rows"] == 0


def test_the_command_prints_figures_and_writes_them_as_json(url, houses, tmp_path):
    file, output = tmp_path / "houses.parquet", tmp_path / "figures.json"
    pq.write_table(houses, file)
    command = [ROOT / "node_modules/.bin/node", ROOT / "cli/bin/sluice.mjs", "evaluate", "price", file, "--url", url]
    command += ["--python", sys.executable, "--task", "regression"]
    options = ["--labels=price", "--inputs", "sqft,rooms", "--output", output]
    told = subprocess.run([*command, *options], capture_output=True, text=True)
    labels, answers = prices_beside(houses)
    assert told.returncode == 0, told.stderr
    assert f"{len(labels):,} evaluated" in told.stdout
    assert json.loads(output.read_text())["figures"]["r2"] == pytest.approx(metrics.r2_score(labels, answers))
    refused = subprocess.run([*command, "--labels=none"], capture_output=True, text=True)
    assert (refused.returncode, "no column 'none'" in refused.stderr) == (1, True)


def test_without_scikit_learn_it_says_what_to_install(tmp_path):
    (tmp_path / "sklearn.py").write_text("raise ImportError('not here')\n")
    path = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
    code = f"{path}; import sluice; sluice.evaluate('f', {{}}, labels='y', task='regression')"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    package = Path(sluice.__file__).resolve().parents[2]
    assert f"pip install '{package}[evaluate]'" in told.stderr
