"""Changes all processes of a port over together: each prepares, and only if all can does each commit.

One of them leads: it looks at the folder and decides. The others do what they are told, and are brought to
what the leader serves when a process has come in another's place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import structlog
from structlog.typing import FilteringBoundLogger

from service.changeover import ChangeOver, Outcome
from service.channel import JSON
from service.loading import Version
from service.model_config import ModelConfig
from service.peers import QUARANTINE, SERVED, Census, Peers
from service.repository import Repository, ServedModel
from service.start_up import Known

_log: FilteringBoundLogger = structlog.get_logger()

_SHOW, _PREPARE, _COMMIT, _ABORT = (f"model {step}" for step in ("show", "prepare", "commit", "abort"))
_LOAD_TIMEOUT_S = 600.0
_SILENT = "a worker did not say in time whether it can be loaded"


class Unison:
    """Drives the change-overs of all processes; answers for this one's.

    Attributes:
        repository: what this process serves.

    Args:
        peers: the processes.
        change_over: this process's.
    """

    def __init__(self, peers: Peers, change_over: ChangeOver) -> None:
        self.repository: Repository = change_over.repository
        self._peers = peers
        self._own = change_over
        self._in_step_with: Census | None = None
        peers.answer(_SHOW, lambda told: change_over.show(*_decided(told)))
        peers.answer(_PREPARE, lambda told: change_over.prepare(_version(*told[:3]), told[3]))
        peers.answer(_COMMIT, lambda told: change_over.commit(*_decided(told)))
        peers.answer(_ABORT, change_over.abort)
        peers.answer(QUARANTINE, change_over.quarantine)
        peers.answer(SERVED, lambda _: self._served())

    def show(self, name: str, outcomes: Sequence[Outcome], labels: Mapping[str, int]) -> None:
        """Make these all versions of a model, everywhere, while others of it are prepared."""
        self._peers.ask_all(_SHOW, [name, outcomes, labels])

    def prepare(self, version: Version, digest: str) -> str:
        """Load a version everywhere, beside what serves; tell why it can't be, if so."""
        told = [version.name, version.number, version.config.model_dump_json(exclude_unset=True), digest]
        reasons = self._peers.ask_all(_PREPARE, told, _LOAD_TIMEOUT_S)
        if len(reasons) < self._peers.census().alive:
            return _SILENT
        return next(filter(None, reasons), "")

    def commit(self, name: str, outcomes: Sequence[Outcome], labels: Mapping[str, int]) -> None:
        """Make these all versions of a model, everywhere; without any it goes away."""
        self._peers.ask_all(_COMMIT, [name, outcomes, labels])

    def abort(self, name: str) -> None:
        """Free what was prepared of a model."""
        self._peers.ask_all(_ABORT, name)

    def release(self, digest: str) -> None:
        """Let the version with this digest be loaded everywhere, whatever it did."""
        self._peers.release(digest)

    def serving(self, name: str) -> dict[int, ServedModel]:
        """Return what answers calls for a model in this process, by version."""
        return self._own.serving(name)

    def keep_step(self) -> None:
        """Bring processes that have come since the last time to what this one serves."""
        if (census := self._peers.census()) == self._in_step_with:
            return
        mine = self._served()
        others = [served for served in self._peers.ask_all(SERVED) if served != mine]
        names = {name for served in others for name in {*mine, *served} if served.get(name) != mine.get(name)}
        for name in sorted(names):
            _log.info("bringing workers to the same versions", model=name)
            self._repeat(name)
        if census.alive == census.wanted:
            self._in_step_with = census

    def _repeat(self, name: str) -> None:
        outcomes = []
        for entry in self.repository.entries(name):
            number, served = int(entry.version), entry.served
            if served is not None:
                version = Version(name, number, self._own.config_of(served))
                self.prepare(version, served.model.digest)
            outcomes.append(Outcome(number, served.model.digest if served else "", entry.reason))
        self.commit(name, outcomes, self.repository.labels(name))

    def _served(self) -> JSON:
        served: dict[str, JSON] = {}
        for entry in self.repository.entries():
            digest = entry.served.model.digest if entry.served else ""
            served.setdefault(entry.name, [dict(self.repository.labels(entry.name))]).append(
                [entry.version, digest, entry.reason]
            )
        return served


def _decided(told: JSON) -> tuple[str, Sequence[Outcome], Mapping[str, int]]:
    name, outcomes, labels = told
    return name, [Outcome(*outcome) for outcome in outcomes], labels


def _version(name: str, number: int, config: str) -> Version:
    return Version(name, number, ModelConfig.model_validate_json(config))


def known_to(peers: Peers) -> Known:
    """Tell what the processes that serve already know of versions; nothing, if there are none."""
    known: dict[str, dict[int, str]] = {}
    for served in peers.ask_all(SERVED) if peers.count > 1 else ():
        for name, (_, *versions) in served.items():
            for number, digest, reason in versions:
                of_model = known.setdefault(name, {})
                if digest:
                    of_model[int(number)] = ""
                elif reason:  # else it is being loaded, and nothing is known yet
                    of_model.setdefault(int(number), reason)
    return known
