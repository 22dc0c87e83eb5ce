"""``python -m sluice.import_command``: what ``sluice models import`` runs.

The server and the key are $SLUICE_URL and $SLUICE_API_KEY.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from sluice.errors import SluiceError
from sluice.models.importing import import_model
from sluice.models.type_text import named_schema

EXIT_FAILED, EXIT_USAGE = 1, 2


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sluice models import")
    parser.add_argument("project")
    parser.add_argument("name")
    parser.add_argument("source", type=Path)
    parser.add_argument("--summary", default="")
    parser.add_argument("--label")
    parser.add_argument("--task-type")
    parser.add_argument("--class-labels", type=Path)
    parser.add_argument("--input", action="append", default=[], metavar="NAME=TYPE")
    parser.add_argument("--output", action="append", default=[], metavar="NAME=TYPE")
    parser.add_argument("--alias", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(given)


def labels_of(file: Path | None) -> Any:
    """A JSON list or object, or one label a line."""
    if file is None:
        return None
    text = file.read_text(encoding="utf-8")
    if text.lstrip()[:1] in ("[", "{"):
        return json.loads(text)
    return [line.strip() for line in text.splitlines() if line.strip()]


def main(given: list[str] | None = None) -> int:
    options = arguments(given)
    source: Path = options.source
    try:
        version = import_model(
            options.project,
            options.name,
            options.summary,
            options.label,
            options.task_type,
            labels_of(options.class_labels),
            aliases=options.alias,
            input_schema=named_schema(options.input, "--input"),
            output_schema=named_schema(options.output, "--output"),
            folder=source if source.is_dir() else None,
            archive=None if source.is_dir() else source,
        )
    except (SluiceError, OSError, ValueError) as error:
        sys.stderr.write(f"sluice: {error}\n")
        return EXIT_FAILED
    if options.json:
        sys.stdout.write(json.dumps(version.document, indent=2) + "\n")
    else:
        files = f"{len(version.files)} file{'' if len(version.files) == 1 else 's'}"
        sys.stdout.write(f"Version {version.model_version} of {version.name} is imported, with {files}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
