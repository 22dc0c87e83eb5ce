"""Answers semantic queries over docs.parquet with the vectors of embeddings.parquet, by cosine similarity.

The queries are embedded by the same deployed function as the documents (``--local`` runs its body in this process).
"""

import argparse
import textwrap
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

QUERIES = [
    "parse the rows of a spreadsheet saved as text",
    "wait until several threads have reached the same point",
    "find out where my program allocates memory",
    "compare two texts and show what changed",
]


def load_vectors(path: Path) -> np.ndarray:
    """float32 of shape (documents, 384), from the column ``result``; a row that failed is zeros, near no query."""
    column = pq.read_table(path, columns=["result"])["result"].combine_chunks()
    width = len(next((row for row in column if row.is_valid), ()))
    if column.null_count:
        rows = [row if row is not None else [0.0] * width for row in column.to_pylist()]
        return np.array(rows, np.float32)
    return column.flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(column), width)


def embed_queries(queries: list[str], local: bool) -> np.ndarray:
    if local:
        from embed import embed

        return np.asarray(embed(queries), np.float32)
    from sluice import Remote

    return np.array(Remote().function("embed")(queries).to_pylist(), np.float32)


def nearest(vectors: np.ndarray, query: np.ndarray, count: int) -> list[tuple[int, float]]:
    """The rows with the largest cosine similarity, best first; all vectors have length 1."""
    scores = vectors @ query
    return [(int(row), float(scores[row])) for row in np.argsort(-scores, kind="stable")[:count]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Semantic search over the embedded documents.")
    parser.add_argument("queries", nargs="*", default=QUERIES, help="what to look for (default: a few examples)")
    parser.add_argument("--docs", type=Path, default=Path("docs.parquet"))
    parser.add_argument("--embeddings", type=Path, default=Path("embeddings.parquet"))
    parser.add_argument("--count", type=int, default=3, help="answers for each query")
    parser.add_argument("--local", action="store_true", help="embed the queries in this process, not by the server")
    options = parser.parse_args()

    docs = pq.read_table(options.docs, columns=["name", "text"]).to_pylist()
    vectors = load_vectors(options.embeddings)
    if len(docs) != len(vectors):
        rows = f"{options.docs} has {len(docs)} rows, {options.embeddings} has {len(vectors)}"
        parser.error(f"{rows}; embed them again")
    print(f"{len(docs):,} documents, {vectors.shape[1]} dimensions")
    for query, vector in zip(options.queries, embed_queries(options.queries, options.local), strict=True):
        print(f"\n  {query}")
        for row, score in nearest(vectors, vector, options.count):
            first = textwrap.shorten(docs[row]["text"], 76, placeholder=" …")
            print(f"    {score:.3f}  {docs[row]['name']}\n           {first}")


if __name__ == "__main__":
    main()
