"""Retrieval by embeddings: documents ranked by the cosine of their vectors with a query's, blocks of queries at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from sluice.evaluation.errors import EvaluationError, Failures
from sluice.evaluation.relevance import Relevance
from sluice.evaluation.report import Figures
from sluice.evaluation.vectors import is_vector, matrix_of

BLOCK_SCORES = 4_000_000
"""Cosines of a block of queries with all documents, 16 MB."""
COSINE_DECIMALS = 6
"""What float32 resolves: equal vectors tie, whatever the order in which a processor adds."""


class Vectors:
    """Answers as unit vectors, with the numbers of their rows."""

    def __init__(self, failures: Failures):
        self._failures = failures
        self.width: int | None = None

    def unit(self, rows: np.ndarray, values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """(rows kept,) and (rows kept, width) in float32. Raises EvaluationError for answers that are no vectors."""
        if not is_vector(values.type):
            raise EvaluationError(f"the answers are {values.type}; retrieval takes one list of numbers a row")
        wide = matrix_of(rows, values, self.width).astype(np.float64)
        self.width = wide.shape[1]
        is_finite = np.asarray(np.isfinite(wide).all(axis=1))
        self._failures.add_all(rows[~is_finite], "no_answer", "the vector holds null, NaN or infinity")
        # By the largest number first, so that no square is lost.
        largest = np.abs(wide, where=is_finite[:, None], out=np.zeros_like(wide)).max(axis=1)
        self._failures.add_all(rows[is_finite & (largest == 0)], "no_answer", "the vector is zero, and has no cosine with others")
        kept = is_finite & (largest > 0)
        scaled = wide[kept] / largest[kept, None]
        return rows[kept], (scaled / np.linalg.norm(scaled, axis=1, keepdims=True)).astype(np.float32)


class Documents:
    """Unit vectors of the documents that were embedded, in blocks as they came."""

    def __init__(self, rows: int):
        self._blocks: list[np.ndarray] = []
        self.places = np.full(rows, -1, np.int64)
        """Place among the vectors by row number; −1: it failed."""
        self.count = 0

    def add(self, rows: np.ndarray, unit: np.ndarray) -> None:
        self.places[rows] = np.arange(self.count, self.count + len(rows))
        self.count += len(rows)
        self._blocks.append(unit)

    def cosines(self, queries: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """The number of the first query of a block, and its cosines with all documents, (queries, documents)."""
        step = max(1, BLOCK_SCORES // max(1, self.count))
        for first in range(0, len(queries), step):
            some = queries[first : first + step]
            yield first, np.round(np.concatenate([some @ block.T for block in self._blocks], axis=1), COSINE_DECIMALS)


class Rankings:
    """Sums of the figures over queries, so that nothing is kept of a query."""

    def __init__(self, cutoffs: Sequence[int]):
        self.cutoffs = list(cutoffs)
        self.queries = 0
        self.lost = 0
        """Queries whose relevant documents all failed."""
        self._sums: dict[str, float] = {}

    def add(self, cosines: np.ndarray, relevant: np.ndarray) -> None:
        """One query: its cosine with each document, and the places of the relevant ones, at least one.

        A document's rank is the number of those whose cosine is at least as high: ties count against the model.
        """
        from sklearn.metrics import label_ranking_average_precision_score, ndcg_score

        self.queries += 1
        scores = cosines[relevant]
        # Documents below every relevant one change no figure, and sorting them is most of the work.
        near = cosines >= scores.min()
        is_relevant = np.zeros(len(cosines), bool)
        is_relevant[relevant] = True
        # One document below all, since scikit-learn ranks two at least.
        truth = np.append(is_relevant[near], False)[None, :]
        ranked = np.append(cosines[near], -2.0)[None, :]
        ranks = np.array([np.count_nonzero(cosines >= score) for score in scores])
        for k in self.cutoffs:
            hits = np.count_nonzero(ranks <= k)
            self._sum(f"recall@{k}", hits / len(relevant))
            self._sum(f"precision@{k}", hits / k)
            self._sum(f"ndcg@{k}", ndcg_score(truth, ranked, k=k))
        self._sum("mrr", 1 / ranks.min())
        self._sum("map", label_ranking_average_precision_score(truth, ranked))

    def _sum(self, name: str, value: float) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + float(value)

    def figures(self) -> Figures:
        """Means over the queries, of which there is at least one; those at a cutoff together."""
        figures = Figures()
        names = [f"{name}@{k}" for name in ("recall", "precision", "ndcg") for k in self.cutoffs]
        for name in [*names, "mrr", "map"]:
            figures.put(name, self._sums[name] / self.queries)
        return figures


def rank_queries(documents: Documents, relevance: Relevance, rows: np.ndarray, unit: np.ndarray, rankings: Rankings) -> None:
    """Ranks the documents for the queries ``rows``, whose vectors are ``unit``."""
    from sklearn import config_context

    # A call a query: what scikit-learn checks of its arguments takes longer than the figures.
    with config_context(assume_finite=True, skip_parameter_validation=True):
        for first, block in documents.cosines(unit):
            for row, cosines in zip(rows[first : first + len(block)], block, strict=True):
                places = documents.places[relevance.of(int(row))]
                places = places[places >= 0]
                if len(places) == 0:
                    rankings.lost += 1
                else:
                    rankings.add(cosines, places)
