"""Changes versions over without a gap: the new one is loaded beside the old, then all is switched at once.

In two phases, so that several processes can change over together: `prepare` in each, then `commit` in each,
or `abort` where one can't. What they are told is plain data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from service.loading import LoadOptions, Version, loaded, log_loaded
from service.model_files import ModelFiles
from service.repository import Entry, Repository, ServedModel, State


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a version becomes."""

    version: int
    serves: bool
    """As it was prepared, or else as it serves already."""
    reason: str = ""
    """Why it doesn't; or why a change to it was refused."""


class ChangeOver:
    """Changes the versions that a repository serves; for one thread.

    Args:
        repository: what answers calls.
        retire: frees models that don't answer new calls.
        options: how models are loaded.
    """

    def __init__(
        self,
        repository: Repository,
        retire: Callable[[Iterable[ServedModel]], None],
        options: LoadOptions,
    ) -> None:
        self.repository = repository
        self._retire = retire
        self._options = options
        self._prepared: dict[tuple[str, int], ServedModel] = {}

    def announce(self, version: Version) -> None:
        """Show that a version is being loaded, unless it serves already."""
        states = {entry.version: entry.state for entry in self.repository.entries(version.name)}
        number = str(version.number)
        if states.get(number) not in (State.READY, State.LOADING):
            self.repository.publish([Entry.loading(version.name, number)])

    def prepare(self, files: ModelFiles, version: Version, digest: str) -> str:
        """Load a version beside what serves; tell why it can't be, "" if it can.

        Args:
            files: the repository's.
            version: what to load.
            digest: of the file that is expected.
        """
        self.announce(version)
        sessions = 1 + sum(entry.state is State.READY for entry in self.repository.entries())
        entry = loaded(files, version, self._options.shared_by(sessions), digest)
        if entry.served is None:
            return entry.reason
        log_loaded(entry)
        self._prepared[version.name, version.number] = self._continued(entry.served)
        return ""

    def commit(self, name: str, outcomes: Sequence[Outcome], labels: Mapping[str, int]) -> None:
        """Make these all versions of a model, at once; without any it goes away."""
        serving = self.serving(name)
        entries = []
        for outcome in outcomes:
            served = self._prepared.pop((name, outcome.version), None) or serving.get(outcome.version)
            if outcome.serves and served is not None:
                entries.append(Entry.ready(served, outcome.reason))
            else:
                entries.append(Entry.unavailable(name, str(outcome.version), outcome.reason))
        self._retire(self.repository.publish_model(name, entries, labels))
        self.abort(name)

    def abort(self, name: str) -> None:
        """Free what was prepared of a model."""
        for key in [key for key in self._prepared if key[0] == name]:
            self._retire([self._prepared.pop(key)])

    def serving(self, name: str) -> dict[int, ServedModel]:
        """Return what answers calls for a model, by version."""
        entries = self.repository.entries(name)
        return {int(entry.version): entry.served for entry in entries if entry.served is not None}

    def _continued(self, served: ServedModel) -> ServedModel:
        """Let a version that takes its own place count on."""
        old = self.serving(served.name).get(int(served.version))
        return replace(served, statistics=old.statistics) if old else served
