"""The files of a model repository: which versions of which models there are, and their bytes.

Only regular files are read, and only such as are in the repository: a link may lead from one of its places to
another, as in the volumes of Kubernetes, and not out of it. A hard link is a file like any other.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import structlog
from structlog.typing import FilteringBoundLogger

from service.errors import ModelLoadError, StartupError

_log: FilteringBoundLogger = structlog.get_logger()


def _warn(place: str, reason: str) -> None:
    _log.warning("ignored in the model repository", place=place, reason=reason, expected=_LAYOUT)


MODEL_FILE = "model.onnx"

NAME_RULE = "a name is up to 64 letters, digits, dots, hyphens and underscores"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_LAYOUT = f"<name>/<number>/{MODEL_FILE}"
_NO_LINK = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_WAIT = os.O_NONBLOCK  # else opening a FIFO waits for somebody to write to it


def is_model_name(name: str) -> bool:
    """Tell whether a model may be called so."""
    return _NAME.fullmatch(name) is not None


class Stamp(NamedTuple):
    """What changes whenever a file is written or another one takes its place."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What there is of one model."""

    name: str
    versions: tuple[int, ...]
    """Ascending."""

    def model_file(self, version: int) -> tuple[str, ...]:
        """Return the path of a version's file below the repository."""
        return self.name, str(version), MODEL_FILE


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The files below one folder.

    Attributes:
        root: The folder, without links.
        ignored: Told the place of what isn't part of a model, and why.
    """

    root: Path
    ignored: Callable[[str, str], None] = _warn

    @classmethod
    def at(cls, folder: Path, ignored: Callable[[str, str], None] = _warn) -> ModelFiles:
        """Open a repository.

        Raises:
            StartupError: There is no such folder.
        """
        if not folder.is_dir():
            raise StartupError(f"the model repository {folder} is not a folder")
        return cls(folder.resolve(), ignored)

    def scan(self) -> list[ModelFolder]:
        """Find all models, by name; what isn't one is left alone, with a warning unless it is hidden."""
        entries = sorted(path for path in self.root.iterdir() if not path.name.startswith("."))
        return [found for entry in entries if (found := self._model(entry)) is not None]

    def read(self, *path: str, most_bytes: int) -> bytes | None:
        """Read a file whose path below the root is known from `scan`; None if there is none.

        Raises:
            ModelLoadError: It is too large, no regular file, outside of the repository, or can't be read.
        """
        name = path[-1]
        place = self.root.joinpath(*path)
        try:
            if not os.path.lexists(place):
                return None
            descriptor = self._open(place, name)
            try:
                return _content(descriptor, name, most_bytes)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ModelLoadError(f"{name} can't be read: {error.strerror}") from error

    def stamps(self, model: ModelFolder) -> dict[tuple[str, ...], Stamp | None]:
        """Stamp the files beside a model's versions and those in them; None where a model file is missing."""
        paths = self.visible(model.name)
        for number in model.versions:
            with suppress(OSError):  # no folder
                paths += self.visible(model.name, str(number))
        stamps = {path: self.stamp(path) for path in paths}
        files = {path: stamp for path, stamp in stamps.items() if stamp is not None}
        return dict.fromkeys(map(model.model_file, model.versions)) | files

    def versions(self, name: str) -> list[int]:
        """List the numbers of a model's versions, ascending; none if it can't be read."""
        try:
            paths = self.root.joinpath(name).iterdir()
            return sorted(int(path.name) for path in paths if _VERSION.fullmatch(path.name))
        except OSError:
            return []

    def visible(self, *folder: str) -> list[tuple[str, ...]]:
        """List the paths of what is in a folder but what is hidden, as files are while they are written.

        Raises:
            OSError: It isn't a folder that can be read.
        """
        names = [path.name for path in self.root.joinpath(*folder).iterdir()]
        return [(*folder, name) for name in names if not name.startswith(".")]

    def stamp(self, path: tuple[str, ...]) -> Stamp | None:
        """Stamp the file at a path below the root; None if there is none."""
        try:
            info = self.root.joinpath(*path).stat()
        except OSError:
            return None
        if stat.S_ISDIR(info.st_mode):
            return None
        return Stamp(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)

    def _model(self, folder: Path) -> ModelFolder | None:
        try:
            self._inside(folder, folder.name)
            versions = self._versions(folder)
        except ModelLoadError as error:
            self.ignored(folder.name, str(error))
        except OSError as error:
            self.ignored(folder.name, error.strerror or "it can't be read")
        else:
            if versions:
                return ModelFolder(folder.name, tuple(sorted(versions)))
            self.ignored(folder.name, "it holds no version")
        return None

    def _versions(self, folder: Path) -> list[int]:
        if not is_model_name(folder.name):
            raise ModelLoadError(NAME_RULE)
        return list(self._numbers(folder))

    def _numbers(self, folder: Path) -> Iterator[int]:
        for path in sorted(folder.iterdir()):
            if _VERSION.fullmatch(path.name):
                yield int(path.name)
            elif path.is_dir() and not path.name.startswith("."):
                place = f"{folder.name}/{path.name}"
                self.ignored(place, "a version is a number from 1 up, without leading zeros")

    def _open(self, place: Path, name: str) -> int:
        """Open a file for reading; nothing that changes in between makes it one outside of the root."""
        *folders, file = self._inside(place, name)
        descriptor = os.open(self.root, _NO_LINK | os.O_DIRECTORY)
        for step, flags in (*((folder, os.O_DIRECTORY) for folder in folders), (file, _NO_WAIT)):
            above = descriptor
            try:
                descriptor = os.open(step, _NO_LINK | flags, dir_fd=above)
            finally:
                os.close(above)
        return descriptor

    def _inside(self, place: Path, name: str) -> tuple[str, ...]:
        """Follow all links; return the steps from the root."""
        real = Path(os.path.realpath(place, strict=True))
        if not real.is_relative_to(self.root):
            raise ModelLoadError(f"{name} leads out of the model repository")
        return real.relative_to(self.root).parts


def _content(descriptor: int, name: str, most_bytes: int) -> bytes:
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode):
        raise ModelLoadError(f"{name} is not a regular file")
    if info.st_size > most_bytes:
        raise ModelLoadError(f"{name} has {info.st_size} bytes; the limit is {most_bytes}")
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(info.st_size)
