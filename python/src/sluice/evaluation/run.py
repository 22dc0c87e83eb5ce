"""``sluice.evaluate``: labels are read and checked first, then the rows are sent, then the figures are computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sluice.evaluation.answers import CONCURRENT_CHUNKS_MAX, Asking, answered
from sluice.evaluation.class_answers import ClassAnswers
from sluice.evaluation.classes import ABSENT, ClassCodes
from sluice.evaluation.classification import classification_figures
from sluice.evaluation.errors import EvaluationError, Failures
from sluice.evaluation.regression import RegressionAnswers, label_numbers, regression_figures
from sluice.evaluation.relevance import Relevance, document_ids, relevance_of
from sluice.evaluation.report import Evaluation
from sluice.evaluation.retrieval import Documents, Rankings, Vectors, rank_queries
from sluice.evaluation.source import TableSource
from sluice.evaluation.target import Inputs, Target
from sluice.requirements import requirement

TASKS = ("classification", "regression", "retrieval")
CUTOFFS = (1, 5, 10)


@dataclass(frozen=True)
class _Sending:
    """How every table of one evaluation is sent."""

    target: Target
    field: str | None
    concurrent_chunks: int
    progress: bool

    def ask(
        self,
        table: tuple[TableSource, str, Inputs],
        failures: Failures,
        take: Callable[[np.ndarray, pa.Array], None],
        kept: np.ndarray | None = None,
    ) -> None:
        """Hands row numbers and their answers to ``take``. What it raises cancels the calls in flight.

        ``table``: with its column that is no input unless it is named, and its inputs. ``kept``: True for the rows that are sent.
        """
        source, other, inputs = table
        columns = self.target.columns(source, inputs, [other])
        asking = Asking(self.target, columns, self.field, self.concurrent_chunks, self.progress)
        keep: Callable[[int, int], np.ndarray] | None = None if kept is None else lambda first, end: kept[first:end]
        with closing(answered(asking, source, failures, keep)) as chunks:
            for rows, values in chunks:
                if len(rows) > 0:
                    take(rows, values)


def evaluate(
    target: Any,
    data: Any,
    *,
    labels: str,
    task: str,
    inputs: Inputs = None,
    answer: str | None = None,
    classes: Sequence[Any] | None = None,
    documents: Any = None,
    id: str = "id",  # the name that a caller writes
    document_inputs: Inputs = None,
    k: int | Sequence[int] = CUTOFFS,
    url: str | None = None,
    api_key: str | None = None,
    concurrent_chunks: int = 16,
    progress: bool = False,
) -> Evaluation:
    """Calls a model with a labelled table and compares its answers with the labels::

        sluice.evaluate("demand", "holdout.parquet", labels="units", task="regression")

    Args:
        target: a scaling group's or a function's name, a deployed group, or what ``Remote().function(…)`` answered.
        data: a pyarrow, pandas or polars table, a dict of columns, or the path of a .parquet, .csv, .tsv or .arrow file, which is
            read in chunks. Of a retrieval: the queries.
        labels: the column with the truth. A class (text, whole number or boolean), a number, or, of a retrieval, the ids of the
            relevant documents: a list, or one id. Rows where it is null are not sent, and counted as ``unlabelled``.
        task: ``"classification"``: the answer is a class, a score for each class (a list, or a struct with the classes as names),
            or the probability of the second of two classes. ``"regression"``: it is a number. ``"retrieval"``: it is a vector.
        inputs: columns that are the function's inputs, or input → column; by default the inputs by name.
        answer: the field of the answers that is looked at, where they are structs.
        classes: in the order of the scores; by default those of the model, or the labels in ascending order.
        documents, id, document_inputs: of a retrieval, the table of documents, its column of ids, and its inputs (by default
            as ``inputs``).
        k: cutoffs of recall@k, precision@k and nDCG@k.
        concurrent_chunks: calls in flight at most, of up to 4,096 rows each.

    Rows that fail, or whose answer is null, NaN or a zero vector, are counted as ``failed`` and no part of the figures.

    Raises:
        EvaluationError: the table, the labels or the answers cannot be evaluated, or no row was answered; it says why.
        ServerError, ConnectionError.
    """
    _check(task, documents, k, concurrent_chunks)
    _require_sklearn()
    source = TableSource(data, "the table" if task != "retrieval" else "the table of queries")
    source.require([labels], "the labels")
    sending = _Sending(Target(target, url, api_key), answer, concurrent_chunks, progress)
    if task == "regression":
        return _regression(sending, source, labels, inputs)
    if task == "classification":
        return _classification(sending, source, labels, inputs, classes)
    library = TableSource(documents, "the table of documents")
    library.require([id], "the documents' ids")
    given = inputs if document_inputs is None else document_inputs
    return _retrieval(sending, (source, labels, inputs), (library, id, given), [k] if isinstance(k, int) else list(k))


def _check(task: str, documents: Any, k: int | Sequence[int], concurrent_chunks: int) -> None:
    if task not in TASKS:
        raise EvaluationError(f"task is {task!r}; it takes one of {', '.join(TASKS)}")
    if (documents is not None) != (task == "retrieval"):
        raise EvaluationError('documents is the table of documents of task="retrieval", and belongs to no other')
    cutoffs = [k] if isinstance(k, int) else list(k)
    if not cutoffs or not all(isinstance(one, int) and not isinstance(one, bool) and one >= 1 for one in cutoffs):
        raise EvaluationError(f"k is {k!r}; it takes whole numbers of at least 1")
    is_number = isinstance(concurrent_chunks, int) and not isinstance(concurrent_chunks, bool)
    if not is_number or not 1 <= concurrent_chunks <= CONCURRENT_CHUNKS_MAX:
        bounds = f"it takes a whole number from 1 to {CONCURRENT_CHUNKS_MAX}"
        raise EvaluationError(f"concurrent_chunks is {concurrent_chunks!r}; {bounds}")


def _require_sklearn() -> None:
    try:
        import sklearn.metrics  # noqa: F401
    except ImportError:
        raise EvaluationError(
            f"Evaluation needs scikit-learn, which is not installed here; run: python -m pip install {requirement('evaluate')}"
        ) from None


def _regression(sending: _Sending, source: TableSource, labels: str, inputs: Inputs) -> Evaluation:
    parts: list[np.ndarray] = []
    for chunk in source.chunks([labels], {labels: pa.float64()}):
        parts.append(label_numbers(chunk[labels], labels, sum(map(len, parts))))
    numbers = np.concatenate(parts) if parts else np.empty(0)
    is_labelled = ~np.isnan(numbers)
    _require_labels(source, labels, is_labelled)
    failures = Failures(source.name)
    gathered = RegressionAnswers(numbers, failures)
    sending.ask((source, labels, inputs), failures, gathered.add, is_labelled)
    pairs = gathered.arrays()
    _require_answers(len(pairs[0]), failures)
    figures = regression_figures(*pairs)
    counts = _counts(is_labelled, len(pairs[0]), failures)
    return Evaluation("regression", sending.target.name, figures.values, counts, figures.reasons, failures=_first(failures))


def _classification(
    sending: _Sending, source: TableSource, labels: str, inputs: Inputs, classes: Sequence[Any] | None
) -> Evaluation:
    truth = ClassCodes(f"labels {labels!r}")
    chunks = source.chunks([labels], {labels: pa.string()}, empty_is_null=True)
    parts = [truth.encode(chunk[labels]) for chunk in chunks]
    codes = np.concatenate(parts) if parts else np.empty(0, np.int32)
    is_labelled = codes != ABSENT
    _require_labels(source, labels, is_labelled)
    failures = Failures(source.name)
    gathered = ClassAnswers(
        truth,
        codes,
        is_text=source.is_text,
        classes=classes,
        model_classes=sending.target.class_labels,
        failures=failures,
    )
    sending.ask((source, labels, inputs), failures, gathered.add, is_labelled)
    _require_answers(gathered.rows_answered, failures)
    found = gathered.classified()
    figures, by_class, confusion = classification_figures(found)
    counts = _counts(is_labelled, gathered.rows_answered, failures)
    unseen = [one["class"] for one in by_class if one["labels"] == 0 and one["answers"] > 0]
    notes = [f"no label is {', '.join(map(repr, unseen[:5]))}, which answers are"] if unseen else []
    return Evaluation(
        "classification",
        sending.target.name,
        figures.values,
        counts,
        figures.reasons,
        by_class,
        confusion,
        _first(failures),
        notes,
    )


def _retrieval(
    sending: _Sending,
    queries: tuple[TableSource, str, Inputs],
    documents: tuple[TableSource, str, Inputs],
    cutoffs: list[int],
) -> Evaluation:
    (source, labels, _), (library, id_column, _) = queries, documents
    as_text = source.is_text or library.is_text
    ids = document_ids(library, id_column, as_text)
    relevance = relevance_of(source, labels, ids, as_text)
    is_labelled = relevance.is_labelled()
    _require_labels(source, labels, is_labelled)
    failures = [Failures("documents"), Failures("queries")]
    found = Documents(len(ids))
    vectors = Vectors(failures[0])
    sending.ask(documents, failures[0], lambda rows, values: found.add(*vectors.unit(rows, values)))
    _require_answers(found.count, failures[0])
    asked = Vectors(failures[1])
    asked.width = vectors.width
    rankings = Rankings(cutoffs)

    def rank(rows: np.ndarray, values: pa.Array) -> None:
        rank_queries(found, relevance, *asked.unit(rows, values), rankings)

    sending.ask(queries, failures[1], rank, is_labelled)
    _require_answers(rankings.queries, failures[1] if failures[1].rows else failures[0])
    figures = rankings.figures()
    counts = {
        "queries": relevance.queries,
        "evaluated": rankings.queries,
        "failed": failures[1].rows,
        "unlabelled": int(np.count_nonzero(~is_labelled)),
        "documents": len(ids),
        "documents_failed": failures[0].rows,
    }
    notes = _retrieval_notes(relevance, found, rankings.lost)
    firsts = [*_first(failures[0]), *_first(failures[1])]
    return Evaluation("retrieval", sending.target.name, figures.values, counts, figures.reasons, failures=firsts, notes=notes)


def _retrieval_notes(relevance: Relevance, found: Documents, lost: int) -> list[str]:
    failed = int(np.count_nonzero(found.places[np.unique(relevance.documents)] < 0))
    notes = [f"{failed:,} relevant documents failed, and are looked for by no query"] if failed else []
    return [*notes, f"{lost:,} queries are not evaluated, since all their relevant documents failed"] if lost else notes


def _require_labels(source: TableSource, labels: str, is_labelled: np.ndarray) -> None:
    if len(is_labelled) == 0:
        raise EvaluationError(f"{source.name} has no rows")
    if not is_labelled.any():
        raise EvaluationError(f"{source.name} has no label: {labels!r} is null or empty in all {len(is_labelled):,} rows")


def _require_answers(count: int, failures: Failures) -> None:
    if count == 0:
        raise EvaluationError(f"no row was answered, so there is nothing to compare with: {failures}")


def _counts(is_labelled: np.ndarray, evaluated: int, failures: Failures) -> dict[str, int]:
    unlabelled = int(np.count_nonzero(~is_labelled))
    return {"rows": len(is_labelled), "evaluated": evaluated, "failed": failures.rows, "unlabelled": unlabelled}


def _first(failures: Failures) -> list[dict[str, Any]]:
    return sorted(failures.first, key=lambda one: int(one["row"]))
