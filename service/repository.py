"""The index of the models: which versions there are, whether they answer calls, and the lookup of them.

Readers see a whole index or the next one, never one that is being changed. A caller's text is only ever
looked up; it never becomes a path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from threading import Lock

from service.classifier import Classifier
from service.errors import InvalidRequestError, ModelNotReadyError, UnknownModelError
from service.model import Model
from service.statistics import Statistics


@dataclass(frozen=True, slots=True, weakref_slot=True)
class ServedModel:
    """A version of a model that answers calls."""

    name: str
    version: str
    model: Model
    classifier_or_none: Classifier | None
    statistics: Statistics = field(default_factory=Statistics)

    def classifier(self) -> Classifier:
        """Return how it classifies.

        Raises:
            InvalidRequestError: it is no image classifier.
        """
        if self.classifier_or_none is None:
            raise InvalidRequestError(
                f'model "{self.name}" is no classifier: it needs one input and one float output [N, classes]'
            )
        return self.classifier_or_none


class State(Enum):
    """Whether a version can be called."""

    LOADING = "loading"
    READY = "ready"
    UNAVAILABLE = "unavailable"


# What a version may become. One that is ready answers until the next state is published, another READY if its
# file was replaced; one that isn't has to be loaded anew.
_NEXT: Mapping[State | None, frozenset[State]] = {
    None: frozenset({State.LOADING, State.UNAVAILABLE}),
    State.LOADING: frozenset({State.READY, State.UNAVAILABLE}),
    State.READY: frozenset({State.READY, State.UNAVAILABLE}),
    State.UNAVAILABLE: frozenset({State.LOADING, State.UNAVAILABLE}),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One version in the index."""

    name: str
    version: str
    state: State
    served: ServedModel | None = None
    """What answers calls, if it is ready."""
    reason: str = ""
    """Why it is unavailable, if it is."""

    @classmethod
    def loading(cls, name: str, version: str) -> Entry:
        """Make the entry of a version that is being loaded."""
        return cls(name, version, State.LOADING)

    @classmethod
    def ready(cls, served: ServedModel) -> Entry:
        """Make the entry of a version that answers calls."""
        return cls(served.name, served.version, State.READY, served)

    @classmethod
    def unavailable(cls, name: str, version: str, reason: str) -> Entry:
        """Make the entry of a version that can't be served, with the reason for callers to read."""
        return cls(name, version, State.UNAVAILABLE, reason=reason)


_Versions = Mapping[str, Entry]


class Repository:
    """All versions of all models.

    Attributes:
        generation: how often the index was replaced; what was looked up in an earlier one may have changed.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._index: Mapping[str, _Versions] = {}  # replaced, never changed; oldest version first
        self._publishing = Lock()

    def publish(self, entries: Iterable[Entry]) -> list[ServedModel]:
        """Put entries in the place of those of the same version, all at once.

        Returns:
            What doesn't answer new calls any more. Calls in flight may still use it.

        Raises:
            ValueError: an entry can't follow the one that is there.
        """
        with self._publishing:
            index = dict(self._index)
            replaced = [_replace(index, entry) for entry in entries]
            self._index = dict(sorted(index.items()))
            self.generation += 1
        return [served for served in replaced if served is not None]

    def entries(self) -> list[Entry]:
        """List all versions by name, then by version, oldest first."""
        return [entry for versions in self._index.values() for entry in versions.values()]

    def ready_names(self) -> tuple[str, ...]:
        """Name the models of which a version can be called."""
        return tuple(dict.fromkeys(entry.name for entry in self.entries() if entry.served))

    def get(self, name: str, version: str = "") -> ServedModel:
        """Return a model that answers calls: "" is the only model, or the newest ready version.

        Raises:
            InvalidRequestError: no name, and several models to choose from.
            UnknownModelError: no such model or version.
            ModelNotReadyError: it is there and can't be served.
        """
        versions = _versions(self._index, name)
        if version:
            if version not in versions:
                model = next(iter(versions.values())).name
                raise UnknownModelError(
                    f'model "{model}" has no version "{version[:100]}"; it has {_listed(versions)}'
                )
            entry = versions[version]
        else:
            ready = [entry for entry in versions.values() if entry.served]
            entry = (ready or list(versions.values()))[-1]
        if entry.served is None:
            trouble = "is being loaded" if entry.state is State.LOADING else "could not be loaded"
            raise ModelNotReadyError(f'model "{entry.name}" version {entry.version} {trouble}')
        return entry.served


def _replace(index: dict[str, _Versions], entry: Entry) -> ServedModel | None:
    versions = index.get(entry.name, {})
    old = versions.get(entry.version)
    if entry.state not in _NEXT[old.state if old else None]:
        raise ValueError(f"{entry.name}/{entry.version} can't become {entry.state.value}")
    index[entry.name] = dict(sorted({**versions, entry.version: entry}.items(), key=lambda e: int(e[0])))
    return old.served if old else None


def _versions(index: Mapping[str, _Versions], name: str) -> _Versions:
    if not name:
        if len(index) != 1:
            raise InvalidRequestError(f"the request names no model; it is one of {_listed(index)}")
        return next(iter(index.values()))
    if name not in index:
        raise UnknownModelError(f'there is no model "{name[:100]}"; there is {_listed(index)}')
    return index[name]


def _listed(names: Mapping[str, object], most: int = 10) -> str:
    """List names for a message, which becomes a header that must stay small."""
    listed = ", ".join(list(names)[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"
