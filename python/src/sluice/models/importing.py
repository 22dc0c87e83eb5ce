"""Models that were made elsewhere: an archive or a folder becomes files of a version that an inference engine serves."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sluice.errors import DeclarationError
from sluice.models.archives import FILES_MAX, unpack

if TYPE_CHECKING:
    from sluice.models.records import ModelVersion

StrPath = str | os.PathLike[str]


@contextmanager
def imported_files(archive: StrPath | None, folder: StrPath | None) -> Iterator[dict[str, Path]]:
    """Path in the model version → file; those of an archive are there until the block ends.

    Raises DeclarationError (ArchiveError of an archive), OSError.
    """
    if (archive is None) == (folder is None):
        raise DeclarationError("archive and folder: give one of them")
    if folder is not None:
        yield walked_folder(Path(folder))
        return
    assert archive is not None
    if not Path(archive).is_file():
        raise DeclarationError(f"archive is {archive}, which is no file; it takes a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz")
    with tempfile.TemporaryDirectory(prefix="sluice-import-") as directory:
        yield unpack(archive, Path(directory))


def walked_folder(folder: Path) -> dict[str, Path]:
    """Every file below it. A link is followed within the folder, and refused where it leaves it, or leads round in a circle."""
    if not folder.is_dir():
        raise DeclarationError(f"folder is {folder}, which is no folder")
    found: dict[str, Path] = {}
    for inner in _files(folder, folder.resolve(), ()):
        found[inner.relative_to(folder).as_posix()] = inner
        if len(found) > FILES_MAX:
            raise DeclarationError(f"{folder} has more than {FILES_MAX} files, the most of a model version; pack them")
    if not found:
        raise DeclarationError(f"folder is {folder}, which has no files")
    return found


def _files(folder: Path, root: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    for inner in sorted(folder.iterdir()):
        if inner.is_symlink() and not inner.resolve().is_relative_to(root):
            raise DeclarationError(f"{inner} is a link to {inner.resolve()}, outside of {root}; copy the file into the folder")
        if inner.is_dir():
            way = (*above, folder.resolve())
            if inner.resolve() in way:
                raise DeclarationError(f"{inner} is a link to {inner.resolve()}, which it lies in; remove it")
            yield from _files(inner, root, way)
        elif inner.is_file():
            yield inner
        else:
            raise DeclarationError(f"{inner} is neither a file nor a folder")


def import_json(project: Any, summary: Any, version: Any, task_type: Any, class_labels: Any) -> dict[str, Any]:
    """The ``import`` member of a REGISTRATION."""
    given = {"project": project, "summary": summary, "version": version, "task_type": task_type}
    for option, value in given.items():
        if value is not None and not isinstance(value, str):
            raise DeclarationError(f"{option} is {value!r}; it takes a text")
    return {**given, "class_labels": label_indices(class_labels)}


def label_indices(labels: Any) -> dict[str, int]:
    """``["cat", "dog"]`` as ``{"cat": 0, "dog": 1}``; a mapping as it is."""
    if labels is None:
        return {}
    if isinstance(labels, Mapping):
        indices = dict(labels)
    elif isinstance(labels, (list, tuple)):
        indices = {label: index for index, label in enumerate(labels)}
        if len(indices) != len(labels):
            raise DeclarationError("class_labels has a label twice; give each one index")
    else:
        raise DeclarationError(f'class_labels is {labels!r}; it takes a list of labels, or {{"cat": 0}}')
    for label, index in indices.items():
        if not isinstance(label, str) or not isinstance(index, int) or isinstance(index, bool) or index < 0:
            raise DeclarationError(
                f"class_labels[{label!r}] is {index!r}; labels are texts, and their indices whole numbers from 0"
            )
    return indices


def import_model(
    project: str,
    name: str,
    summary: str = "",
    version: str | None = None,
    task_type: str | None = None,
    class_labels: Any = None,
    *,
    archive: StrPath | None = None,
    folder: StrPath | None = None,
    url: str | None = None,
    api_key: str | None = None,
    **options: Any,
) -> ModelVersion:
    """As :meth:`sluice.Client.import_model`, on the server of $SLUICE_URL, or of ``url``."""
    from sluice.client import Client

    client = Client(url, api_key)
    return client.import_model(
        project, name, summary, version, task_type, class_labels, archive=archive, folder=folder, **options
    )
