"""Reads a model's file and those that hold its weights, all as they are at one time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from service.errors import ModelLoadError, StartupError
from service.external_data import ExternalData, may_be_external
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


class ModelReading:
    """A model's file that has been read; those with its weights are read when asked for, if there are any.

    To ask means to parse the file, which in a hostile one takes much memory and time.

    Attributes:
        data: What the file holds.
        files: Where it is.
        path: Its own, below the root of the files; those with its weights are in the same folder.
        expected: The files as they have been seen; None: they are read as they are.

    Args:
        data: See above.
        files: See above.
        path: See above.
        most_bytes: How many bytes all files may have together.
        expected: See above.
    """

    def __init__(
        self,
        data: bytes,
        files: ModelFiles,
        path: tuple[str, ...],
        most_bytes: int,
        expected: Stamps | None = None,
    ) -> None:
        self.data = data
        self.files = files
        self.path = path
        self.expected = expected
        self._most_bytes = most_bytes
        self._stamps: dict[str, Stamp | None] = {}

    @classmethod
    def begin(
        cls, files: ModelFiles, *path: str, most_bytes: int, expected: Stamps | None = None
    ) -> ModelReading | None:
        """Read the model's file; None if there is none.

        Raises:
            ModelLoadError: It can't be read, or is too large.
            FilesChangedError: It isn't as expected.
        """
        reading = cls(b"", files, path, most_bytes, expected)
        data = reading._read(path[-1])
        if data is None:
            return None
        reading.data = data
        return reading

    @property
    def is_alone(self) -> bool:
        """Whether it certainly needs no other file."""
        return not may_be_external(self.data)

    @property
    def bytes_seen(self) -> int:
        """How large all files are that it may need."""
        return len(self.data) if self.is_alone else sum(s.size for s in (self.expected or {}).values() if s)

    def finish(self) -> ModelData:
        """Read the other files, and make all of them one.

        Raises:
            ModelLoadError: They can't be read, are too large, or lack weights.
            FilesChangedError: A file isn't as expected, or changed while they were read.
        """
        file, data = self.path[-1], self.data
        digest = hashlib.sha256(data).hexdigest()
        try:
            if (external := ExternalData.of(data, self._most_bytes)) is not None:
                data, digest = self._joined(external, _line(digest, file))
        except ModelLoadError as error:
            raise ModelLoadError(f"{file} can't be loaded: {error}") from error
        for name, stamp in self._stamps.items():
            if self._stamp(name) != stamp:
                raise FilesChangedError(f"{name} changed while it was being loaded")
        return ModelData(data, digest, self._stamps)

    def _joined(self, external: ExternalData, listing: str) -> tuple[bytes, str]:
        """Put the other files' weights into the model; return it, and the digest of all files."""
        for name in external.files:
            content = self._read(name)
            external.fill(name, content)
            listing += _line(hashlib.sha256(content or b"").hexdigest(), name)
            del content  # a file may be large
        return external.whole(), hashlib.sha256(listing.encode()).hexdigest()

    def _read(self, name: str) -> bytes | None:
        stamp = self._stamps[name] = self._stamp(name)
        if self.expected is not None and stamp != self.expected.get(name):
            raise FilesChangedError(f"{name} is being changed")
        total = sum(stamp.size for stamp in self._stamps.values() if stamp)
        if len(self._stamps) > 1 and total > self._most_bytes:
            raise ModelLoadError(
                f"{' and '.join(self._stamps)} have {total} bytes; the limit is {self._most_bytes}"
            )
        return self.files.read(*self.path[:-1], name, most_bytes=self._most_bytes)

    def _stamp(self, name: str) -> Stamp | None:
        return self.files.stamp((*self.path[:-1], name))


def read_model(
    files: ModelFiles, *path: str, most_bytes: int, expected: Stamps | None = None
) -> ModelData | None:
    """Read a model and all its weights; None if it isn't there. See ModelReading.

    Raises:
        ModelLoadError: The files can't be read, are too large, or lack weights.
        FilesChangedError: A file isn't as expected, or changed while they were read.
    """
    reading = ModelReading.begin(files, *path, most_bytes=most_bytes, expected=expected)
    return reading.finish() if reading else None


def _line(digest: str, name: str) -> str:
    return f"{digest}  {name}\n"
