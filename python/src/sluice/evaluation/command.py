"""``python -m sluice.evaluation.command``: what ``sluice evaluate`` runs. $SLUICE_URL and $SLUICE_API_KEY say which server."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from sluice.errors import SluiceError
from sluice.evaluation import evaluate

EXIT_FAILED, EXIT_INTERRUPTED = 1, 130


def names(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


def columns(text: str) -> dict[str, str]:
    """``a,input=column`` as input → column."""
    parts = [one.partition("=") for one in names(text)]
    return {name: column if equals else name for name, equals, column in parts}


def cutoffs(text: str) -> list[int]:
    try:
        return [int(one) for one in names(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(f'"{text}" is no list of whole numbers, such as 1,5,10') from None


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sluice evaluate", allow_abbrev=False)
    parser.add_argument("target")
    parser.add_argument("file")
    parser.add_argument("--labels", required=True)
    parser.add_argument("--task", required=True)
    parser.add_argument("--inputs", type=columns)
    parser.add_argument("--answer")
    parser.add_argument("--classes", type=names)
    parser.add_argument("--documents")
    parser.add_argument("--id", default="id")
    parser.add_argument("--document-inputs", type=columns)
    parser.add_argument("--k", type=cutoffs, default=[1, 5, 10])
    parser.add_argument("--concurrent-chunks", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--output", type=Path)
    return parser.parse_args(given)


def run(options: argparse.Namespace) -> None:
    found = evaluate(
        options.target,
        options.file,
        labels=options.labels,
        task=options.task,
        inputs=options.inputs,
        answer=options.answer,
        classes=options.classes,
        documents=options.documents,
        id=options.id,
        document_inputs=options.document_inputs,
        k=options.k,
        concurrent_chunks=options.concurrent_chunks,
    )
    document = json.dumps(found.to_dict(), indent=2, ensure_ascii=False)
    if options.output is not None:
        options.output.write_text(document + "\n", encoding="utf-8")
    sys.stdout.write(f"{document if options.json else found}\n")


def main() -> int:
    try:
        run(arguments())
    except KeyboardInterrupt:
        sys.stderr.write("sluice: Interrupted.\n")
        return EXIT_INTERRUPTED
    except (SluiceError, ValueError, OSError) as error:
        sys.stderr.write(f"sluice: {error}\n")
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
