"""Evaluation of a model on a labelled table: :func:`evaluate` sends the rows through the queue and compares the answers.

A table is read in chunks; what is kept of a row is its label and its answer as numbers. The figures are scikit-learn's.
"""

from sluice.evaluation.errors import EvaluationError
from sluice.evaluation.report import Evaluation
from sluice.evaluation.run import evaluate

__all__ = ["Evaluation", "EvaluationError", "evaluate"]
