"""Tells files that are still being written from those that are done: a file counts once it is left alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from service.model_files import Stamp

Path = tuple[str, ...]
Picture = Mapping[Path, Stamp | None]
"""The files of a repository, None for one that is missing where one is due."""

_GONE = object()


class _Change(NamedTuple):
    """What a path has become, and since when."""

    to: object
    since_s: float


class Settling:
    """The picture of a folder in which every file is as it was when it was last left alone for a while.

    Attributes:
        picture: the files as they count.

    Args:
        picture: the files at first.
        settle_s: how long a file has to stay as it is, in seconds.
    """

    def __init__(self, picture: Picture, settle_s: float) -> None:
        self._settled = dict(picture)
        self._settle_s = settle_s
        self._changes: dict[Path, _Change] = {}
        self.picture: Picture = MappingProxyType(self._settled)

    def look(self, seen: Picture, now_s: float) -> float | None:
        """Take a look at the files; tell after how many seconds another may settle something."""
        for path in {*seen, *self._settled, *self._changes}:
            stamp = seen.get(path, _GONE)
            change = self._changes.get(path)
            if stamp == self._settled.get(path, _GONE):
                self._changes.pop(path, None)
            elif change is None or change.to != stamp:
                self._changes[path] = _Change(stamp, now_s)
            elif now_s - change.since_s >= self._settle_s:
                self.settle(seen, [path])
        if not self._changes:
            return None
        return max(0.0, min(change.since_s for change in self._changes.values()) + self._settle_s - now_s)

    def settle(self, seen: Picture, paths: Iterable[Path]) -> None:
        """Count paths as they are seen now, without waiting."""
        for path in paths:
            self._changes.pop(path, None)
            if path in seen:
                self._settled[path] = seen[path]
            else:
                self._settled.pop(path, None)
