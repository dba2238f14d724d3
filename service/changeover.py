"""Changes versions over without a gap: the new one is loaded beside the old, then all is switched at once.

This is one process's part of it, in two phases: `prepare`, then `commit` or `abort`. What it is told is plain
data and may be told again, so processes that share a port can be brought to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import NamedTuple
from weakref import WeakKeyDictionary

import structlog
from structlog.typing import FilteringBoundLogger

from service.errors import StartupError
from service.loading import Version, loaded, log_loaded
from service.model import Model
from service.model_config import ModelConfig
from service.model_files import ModelFiles
from service.repository import Entry, Repository, ServedModel, State
from service.start_up import Started

_log: FilteringBoundLogger = structlog.get_logger()

_Key = tuple[str, int]


class Outcome(NamedTuple):
    """What a version becomes."""

    version: int
    digest: str
    """Of the file that serves, prepared or serving already; "" if none does."""
    reason: str = ""
    """Why it doesn't, "" if it is being loaded; or why a change to it was refused."""


class ChangeOver:
    """Changes the versions that one process serves.

    Attributes:
        repository: what answers calls.

    Args:
        started: what was loaded at the start.
        retire: frees models that don't answer new calls.
    """

    def __init__(self, started: Started, retire: Callable[[Iterable[ServedModel]], None]) -> None:
        self.repository: Repository = started.repository
        self._folder = started.folder
        self._options = started.options
        self._retire = retire
        self._prepared: dict[_Key, ServedModel] = {}
        self._configs: WeakKeyDictionary[Model, ModelConfig] = WeakKeyDictionary()
        for entry in started.repository.entries():
            if entry.served is not None:
                self._configs[entry.served.model] = started.configs[entry.name]
        self._lock = Lock()
        self._publishing = Lock()  # a load takes long, a quarantine must not wait for it

    def prepare(self, version: Version, digest: str) -> str:
        """Load a version beside what serves, unless it serves like this; tell why it can't be, if so.

        Args:
            version: what to load.
            digest: of the file that is expected.
        """
        with self._lock:
            key = (version.name, version.number)
            old = self.serving(version.name).get(version.number)
            if self._is(old, version, digest):
                return ""
            self._announce(*key)
            if self._is(self._prepared.get(key), version, digest):
                return ""
            sessions = 1 + sum(entry.state is State.READY for entry in self.repository.entries())
            try:
                files = ModelFiles.at(self._folder)
            except StartupError as error:
                return str(error)
            entry = loaded(files, version, self._options.shared_by(sessions), digest)
            if entry.served is None:
                return entry.reason
            log_loaded(entry)
            # A version that takes its own place counts on.
            served = replace(entry.served, statistics=old.statistics) if old else entry.served
            self._retire([self._prepared.pop(key)] if key in self._prepared else [])
            self._prepared[key] = served
            self._configs[served.model] = version.config
            return ""

    def show(self, name: str, outcomes: Sequence[Outcome], labels: Mapping[str, int]) -> None:
        """Make these all versions of a model while others of it are prepared; those stay so."""
        with self._publishing:
            entries = [self._entry(name, outcome) for outcome in outcomes]
            self._retire(self.repository.publish_model(name, entries, labels))

    def commit(self, name: str, outcomes: Sequence[Outcome], labels: Mapping[str, int]) -> None:
        """Make these all versions of a model, at once; without any it goes away."""
        with self._lock:
            self.show(name, outcomes, labels)
            self._forget(name)

    def quarantine(self, reasons: Mapping[str, str]) -> None:
        """Serve no version with one of these digests until told otherwise, for the reason that is given."""
        with self._publishing:
            self._options.suspects.quarantined = reasons
            hit = [
                e.served for e in self.repository.entries() if e.served and e.served.model.digest in reasons
            ]
            self._retire(
                self.repository.publish(
                    Entry.unavailable(served.name, served.version, reasons[served.model.digest])
                    for served in hit
                )
            )
        for served in hit:
            _log.error("model quarantined", model=served.name, version=served.version)
            self.repository.changes.add(served.name, "quarantined")

    def abort(self, name: str) -> None:
        """Free what was prepared of a model."""
        with self._lock:
            self._forget(name)

    def serving(self, name: str) -> dict[int, ServedModel]:
        """Return what answers calls for a model, by version."""
        entries = self.repository.entries(name)
        return {int(entry.version): entry.served for entry in entries if entry.served is not None}

    def config_of(self, served: ServedModel) -> ModelConfig:
        """Return the configuration that a version was loaded with."""
        return self._configs[served.model]

    def _is(self, served: ServedModel | None, version: Version, digest: str) -> bool:
        """Tell whether a version has been loaded of these files, as this configuration asks."""
        if served is None or served.model.digest != digest:
            return False
        return version.config.loads_as(self.config_of(served))

    def _announce(self, name: str, number: int) -> None:
        """Show that a version is being loaded, unless it serves already."""
        with self._publishing:
            if (entry := self._loading(name, number)) is not self._known(name, number):
                self.repository.publish([entry])

    def _loading(self, name: str, number: int) -> Entry:
        known = self._known(name, number)
        return known if known and known.state is not State.UNAVAILABLE else Entry.loading(name, str(number))

    def _known(self, name: str, number: int) -> Entry | None:
        entries = self.repository.entries(name)
        return next((entry for entry in entries if entry.version == str(number)), None)

    def _entry(self, name: str, outcome: Outcome) -> Entry:
        if not (outcome.digest or outcome.reason):
            return self._loading(name, outcome.version)
        candidates = (self._prepared.get((name, outcome.version)), self.serving(name).get(outcome.version))
        quarantined = self._options.suspects.quarantined.get(outcome.digest)
        for served in candidates:
            if served is not None and served.model.digest == outcome.digest and not quarantined:
                return Entry.ready(served, outcome.reason)
        reason = quarantined or outcome.reason or "this process could not load it; the server's log says why"
        return Entry.unavailable(name, str(outcome.version), reason)

    def _forget(self, name: str) -> None:
        mine = [key for key in self._prepared if key[0] == name]
        self._retire([self._prepared.pop(key) for key in mine])
