"""Writes real text that every machine has, the docstrings of Python's standard library, as a Parquet file.

Columns: id (int64), name (``json.JSONDecoder.decode``), kind (module, class or function), text (the docstring). One row
per documented, public module, class, method or function. The sources are parsed, not imported, so nothing runs and
nothing platform-specific is missed. The order is fixed: modules first, then classes, then functions, by name, so that
a ``--limit`` keeps the broadest view of the library.
"""

import argparse
import ast
import inspect
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

KINDS = ("module", "class", "function")
NOT_DOCUMENTED_API = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages"}


def modules(stdlib: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(stdlib.rglob("*.py")):
        parts = path.relative_to(stdlib).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        public = all(part.isidentifier() and not part.startswith("_") for part in parts)
        if parts and public and not NOT_DOCUMENTED_API.intersection(parts):
            yield ".".join(parts), path


def docstrings(node: ast.AST, name: str, kind: str = "module") -> Iterator[tuple[str, str, str]]:
    text = ast.get_docstring(node, clean=False)
    if text and text.strip():
        yield name, kind, inspect.cleandoc(text)
    if kind == "function":
        return  # what a function defines inside is not reachable by name
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            below = "class" if isinstance(child, ast.ClassDef) else "function"
            yield from docstrings(child, f"{name}.{child.name}", below)


def documents(stdlib: Path, limit: int | None = None) -> pa.Table:
    found: dict[str, tuple[str, str]] = {}
    for module, path in modules(stdlib):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes in old docstrings
            tree = ast.parse(path.read_bytes())
        for name, kind, text in docstrings(tree, module):
            found.setdefault(name, (kind, text))
    rows = sorted((KINDS.index(kind), name, kind, text) for name, (kind, text) in found.items())[:limit]
    return pa.table(
        {
            "id": pa.array(range(len(rows)), pa.int64()),
            "name": pa.array([name for _, name, _, _ in rows], pa.string()),
            "kind": pa.array([kind for _, _, kind, _ in rows], pa.string()),
            "text": pa.array([text for *_, text in rows], pa.string()),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the standard library's docstrings as a Parquet file.")
    parser.add_argument("--output", type=Path, default=Path("docs.parquet"))
    parser.add_argument("--limit", type=int, default=None, help="rows at most (default: all)")
    options = parser.parse_args()
    table = documents(Path(sysconfig.get_paths()["stdlib"]), options.limit)
    pq.write_table(table, options.output, row_group_size=1024)
    print(f"{options.output}: {table.num_rows:,} docstrings of Python's standard library")


if __name__ == "__main__":
    main()
