"""The index of the models: which versions there are, whether they answer calls, and the lookup of them.

Readers see a whole index or the next one, never one that is being changed. A caller's text is only ever
looked up; it never becomes a path.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from threading import Lock
from typing import NamedTuple

from service.classifier import Classifier
from service.errors import InvalidRequestError, ModelNotReadyError, UnknownModelError
from service.model import Model
from service.non_finite import OriginSearch
from service.statistics import ChangeCounts, Statistics
from service.suspects import QUARANTINED


@dataclass(frozen=True, slots=True, weakref_slot=True)
class ServedModel:
    """A version of a model that answers calls. Every call holds it until it ends."""

    name: str
    version: str
    model: Model
    classifier_or_none: Classifier | None
    finite: bool
    """Whether NaN and infinities in its inputs are refused."""
    statistics: Statistics = field(default_factory=Statistics)
    origins: OriginSearch = field(default_factory=OriginSearch)
    """Finds where NaN begins, should it answer so."""
    not_a_classifier: str = ""
    """Why it is no image classifier, and what in config.toml would make it one; empty if it is one."""

    def classifier(self) -> Classifier:
        """Return how it classifies.

        Raises:
            InvalidRequestError: it is no image classifier.
        """
        if self.classifier_or_none is None:
            raise InvalidRequestError(f'model "{self.name}" is no image classifier: {self.not_a_classifier}')
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
    """Why it is unavailable, if it is; if it is ready, why a change to it was refused."""

    @classmethod
    def loading(cls, name: str, version: str) -> Entry:
        """Make the entry of a version that is being loaded."""
        return cls(name, version, State.LOADING)

    @classmethod
    def ready(cls, served: ServedModel, reason: str = "") -> Entry:
        """Make the entry of a version that answers calls."""
        return cls(served.name, served.version, State.READY, served, reason)

    @classmethod
    def unavailable(cls, name: str, version: str, reason: str) -> Entry:
        """Make the entry of a version that can't be served, with the reason for callers to read."""
        return cls(name, version, State.UNAVAILABLE, reason=reason)


STABLE = "stable"
"""The label of the version that answers calls which name none."""


class _Versions(NamedTuple):
    """The versions of one model."""

    entries: Mapping[str, Entry]
    """Oldest first."""
    labels: Mapping[str, int]
    asked: Mapping[str, Entry]
    """By all that calls may give as a version: a number, a label, nothing."""


class Repository:
    """All versions of all models.

    Attributes:
        changes: what became of changes since the start.
        generation: how often the index was replaced; what was looked up in an earlier one may have changed.
    """

    def __init__(self) -> None:
        self.generation = 0
        self.changes = ChangeCounts()
        self._index: Mapping[str, _Versions] = {}  # replaced, never changed; by name
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
            for entry in entries:
                known = index.get(entry.name, _NONE)
                _check(known, entry)
                index[entry.name] = _make({**known.entries, entry.version: entry}, known.labels)
            return self._replace(index)

    def publish_model(
        self, name: str, entries: Iterable[Entry], labels: Mapping[str, int]
    ) -> list[ServedModel]:
        """Put entries in the place of all those of a model, at once; without any the model goes away.

        Args:
            name: of the model.
            entries: its versions.
            labels: names that calls may use for some of them. STABLE is the one that calls get which name
                none; without it they get the newest that is ready.

        Returns:
            As `publish`.

        Raises:
            ValueError: as `publish`.
        """
        with self._publishing:
            index = dict(self._index)
            known = index.pop(name, _NONE)
            new = {entry.version: entry for entry in entries}
            for version, entry in new.items():
                if entry is not known.entries.get(version):
                    _check(known, entry)
            if new:
                index[name] = _make(new, labels)
            return self._replace(index)

    def _replace(self, index: Mapping[str, _Versions]) -> list[ServedModel]:
        before = _served(self._index)
        self._index = dict(sorted(index.items()))
        self.generation += 1
        after = {id(served) for served in _served(self._index)}
        return [served for served in before if id(served) not in after]

    def entries(self, name: str = "") -> list[Entry]:
        """List all versions by name, then by version, oldest first; of one model if it is named."""
        index = self._index
        families = index.values() if not name else [index.get(name, _NONE)]
        return [entry for versions in families for entry in versions.entries.values()]

    def labels(self, name: str) -> Mapping[str, int]:
        """Return the labels of a model's versions."""
        return self._index.get(name, _NONE).labels

    def ready_names(self) -> tuple[str, ...]:
        """Name the models of which a version can be called."""
        return tuple(dict.fromkeys(entry.name for entry in self.entries() if entry.served))

    def get(self, name: str, version: str = "") -> ServedModel:
        """Return a model that answers calls.

        Args:
            name: "" is the only model there is.
            version: a number or a label; "" is the version labelled STABLE, else the newest that is ready.

        Raises:
            InvalidRequestError: no name, and several models to choose from.
            UnknownModelError: no such model or version.
            ModelNotReadyError: it is there and can't be served.
        """
        versions = _versions(self._index, name)
        entry = versions.asked.get(version)
        if entry is None:
            model = next(iter(versions.entries.values())).name
            known = _listed([*versions.entries, *versions.labels])
            raise UnknownModelError(f'model "{model}" has no version "{version[:100]}"; it has {known}')
        if entry.served is None:
            raise ModelNotReadyError(f'model "{entry.name}" version {entry.version} {_trouble(entry)}')
        return entry.served


_NONE = _Versions({}, {}, {})


def _check(known: _Versions, entry: Entry) -> None:
    old = known.entries.get(entry.version)
    if entry.state not in _NEXT[old.state if old else None]:
        raise ValueError(f"{entry.name}/{entry.version} can't become {entry.state.value}")


def _trouble(entry: Entry) -> str:
    if entry.state is State.LOADING:
        return "is being loaded"
    return f"is {entry.reason}" if entry.reason.startswith(QUARANTINED) else "could not be loaded"


def _make(entries: Mapping[str, Entry], labels: Mapping[str, int]) -> _Versions:
    in_order = dict(sorted(entries.items(), key=lambda item: int(item[0])))
    return _Versions(in_order, labels, _asked(in_order, labels))


def _asked(entries: Mapping[str, Entry], labels: Mapping[str, int]) -> Mapping[str, Entry]:
    if not entries:
        return {}
    labelled = {label: entries[str(n)] for label, n in labels.items() if str(n) in entries}
    ready = [entry for entry in entries.values() if entry.served]
    newest = (ready or list(entries.values()))[-1]
    return {"": labelled.get(STABLE, newest), **entries, **labelled}


def _served(index: Mapping[str, _Versions]) -> list[ServedModel]:
    entries = (entry for versions in index.values() for entry in versions.entries.values())
    return [entry.served for entry in entries if entry.served is not None]


def _versions(index: Mapping[str, _Versions], name: str) -> _Versions:
    if not name:
        if len(index) != 1:
            raise InvalidRequestError(f"the request names no model; it is one of {_listed(index)}")
        return next(iter(index.values()))
    if name not in index:
        raise UnknownModelError(f'there is no model "{name[:100]}"; there is {_listed(index)}')
    return index[name]


def _listed(names: Collection[str], most: int = 10) -> str:
    """List names for a message, which becomes a header that must stay small."""
    listed = ", ".join(list(names)[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"
