"""Reads a model's file and those that hold its weights, all as they are at one time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from service.errors import ModelLoadError, StartupError
from service.external_data import ExternalData
from service.model_files import ModelFiles, Stamp

Stamps = Mapping[str, Stamp | None]
"""Of the files of one folder, by name; None, or left out, where there is none."""


class FilesChangedError(StartupError):
    """A file isn't what it was when it was seen."""


@dataclass(frozen=True, slots=True)
class ModelData:
    """What was read of a model.

    Attributes:
        data: The model as one ONNX file, its weights included.
        digest: In lower-case hexadecimal, the SHA-256 of the model's file. If there are others with its
            weights, it is that of lines, one for each file, first the model's, then the others by name: the
            SHA-256 of the file, two spaces, its name and a line feed, as sha256sum prints them.
        stamps: The files that were read.
    """

    data: bytes
    digest: str
    stamps: Stamps


def read_model(
    files: ModelFiles, *path: str, most_bytes: int, expected: Stamps | None = None
) -> ModelData | None:
    """Read the model whose file is at a path below the root of the files; None if there is none.

    Args:
        files: Where it is.
        path: Its file's; those with its weights are in the same folder.
        most_bytes: How many all these files may have together.
        expected: The files as they have been seen; None: they are read as they are.

    Raises:
        ModelLoadError: It can't be read, is too large, or lacks weights.
        FilesChangedError: A file isn't as expected, or changed while they were read.
    """
    reading = _Reading(files, path[:-1], most_bytes, expected)
    data = reading.read(path[-1])
    if data is None:
        return None
    digest = hashlib.sha256(data).hexdigest()
    try:
        if (external := ExternalData.of(data, most_bytes)) is not None:
            data, digest = _joined(external, reading, _line(digest, path[-1]))
    except ModelLoadError as error:
        raise ModelLoadError(f"{path[-1]} can't be loaded: {error}") from error
    reading.check()
    return ModelData(data, digest, reading.stamps)


def _joined(external: ExternalData, reading: _Reading, listing: str) -> tuple[bytes, str]:
    """Put the other files' weights into the model; return it, and the digest of all files."""
    for name in external.files:
        content = reading.read(name)
        external.fill(name, content)
        listing += _line(hashlib.sha256(content or b"").hexdigest(), name)
        del content  # a file may be large
    return external.whole(), hashlib.sha256(listing.encode()).hexdigest()


class _Reading:
    """Reads files of one folder, as they are at one time."""

    def __init__(
        self, files: ModelFiles, folder: tuple[str, ...], most_bytes: int, expected: Stamps | None
    ) -> None:
        self.stamps: dict[str, Stamp | None] = {}
        self._files = files
        self._folder = folder
        self._most_bytes = most_bytes
        self._expected = expected

    def read(self, name: str) -> bytes | None:
        stamp = self.stamps[name] = self._stamp(name)
        if self._expected is not None and stamp != self._expected.get(name):
            raise FilesChangedError(f"{name} is being changed")
        total = sum(stamp.size for stamp in self.stamps.values() if stamp)
        if len(self.stamps) > 1 and total > self._most_bytes:
            raise ModelLoadError(
                f"{' and '.join(self.stamps)} have {total} bytes; the limit is {self._most_bytes}"
            )
        return self._files.read(*self._folder, name, most_bytes=self._most_bytes)

    def check(self) -> None:
        for name, stamp in self.stamps.items():
            if self._stamp(name) != stamp:
                raise FilesChangedError(f"{name} changed while it was being loaded")

    def _stamp(self, name: str) -> Stamp | None:
        return self._files.stamp((*self._folder, name))


def _line(digest: str, name: str) -> str:
    return f"{digest}  {name}\n"
