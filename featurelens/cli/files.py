"""Finds the images that folders, files and patterns stand for."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from featurelens.cli.console import CommandError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def find_images(inputs: Iterable[str]) -> list[str]:
    """Return the paths of all images, each once, in the order of the inputs, those of one input sorted.

    A folder stands for the image files in it and below it, hidden ones left out. A file that is named, or
    that a pattern matches, is taken whatever it is called.

    Raises:
        CommandError: an input stands for nothing.
    """
    return list(dict.fromkeys(path for entry in inputs for path in _expand(entry)))


def _expand(entry: str) -> list[str]:
    if Path(entry).is_dir():
        if found := sorted(_walk(entry)):
            return found
        raise CommandError(f"no images ({', '.join(SUFFIXES)}) in the folder {entry}")
    if os.path.lexists(entry):
        return [entry]
    if not glob.has_magic(entry):
        raise CommandError(f"no such file or folder: {entry}")
    matches = glob.glob(entry, recursive=True)  # noqa: PTH207 - pathlib takes no absolute patterns
    if found := sorted(path for path in matches if not Path(path).is_dir()):
        return found
    raise CommandError(f"nothing matches {entry}")


def _walk(folder: str) -> Iterator[str]:
    """Yield the images below a folder; links to folders aren't followed, they could go in circles."""
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield str(Path(parent, name))


def _refuse(error: OSError) -> None:
    raise CommandError(f"can't read the folder {error.filename}: {error.strerror}") from error
