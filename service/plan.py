"""What a model is to become: the versions that its configuration wants of its folder, and their attempts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from service.attempts import Attempt
from service.changeover import Outcome
from service.errors import ModelLoadError
from service.folder_view import View
from service.model_config import ModelConfig
from service.model_files import Stamp

_KEPT = "nothing else in the model's folder can be served, so this version is kept"

Serving = Mapping[int, str]
"""Digests of the versions that answer calls."""


@dataclass(slots=True)
class Plan:
    """One model's; when all of it is decided it is what the model is served as.

    Attributes:
        view: The folder.
        config: What wants the versions.
        beside: The files that the configuration was read of.
        attempts: The versions of the folder that were or are tried, under this configuration.
        problem: Why the folder's own config.toml isn't the configuration; empty if it is.
        requested: Whether somebody asked for the model to be loaded.
        shown: What was made known while it waited.
    """

    view: View
    config: ModelConfig
    beside: Mapping[str, Stamp]
    attempts: dict[int, Attempt] = field(default_factory=dict)
    problem: str = ""
    requested: bool = False
    shown: Sequence[Outcome] | None = None

    def wanted(self, serving: Collection[int]) -> Sequence[int]:
        """Choose the versions to serve: a version that was replaced by one that is refused serves on."""
        refused = [n for n, attempt in self.attempts.items() if attempt.refused and n not in serving]
        return self.config.wanted(list(self.view.versions), refused)

    def undecided(self, serving: Collection[int]) -> Sequence[int]:
        """Name the versions it wants of which it isn't known whether they can be served."""
        decided = {n for n, attempt in self.attempts.items() if attempt.decided}
        return [n for n in self.wanted(serving) if n not in decided]

    def passed(self, serving: Collection[int]) -> Mapping[int, Attempt]:
        """Return those of the versions it wants that passed their trials."""
        wanted = ((n, self.attempts.get(n)) for n in self.wanted(serving))
        return {n: attempt for n, attempt in wanted if attempt and attempt.tried}

    def keep(self, other: Plan, serving: Collection[int] | None = None) -> None:
        """Take over the attempts of another plan for files that are the same.

        Args:
            other: it.
            serving: if given, what passed and isn't among these was dropped since, and is left out.
        """
        if not self.config.loads_as(other.config):
            return
        for number, attempt in other.attempts.items():
            dropped = serving is not None and attempt.tried is not None and number not in serving
            if self.view.versions.get(number, {}) == attempt.stamps and not dropped:
                self.attempts.setdefault(number, attempt)

    def leave_out(self, undecided: Collection[int]) -> None:
        """End trials of versions that aren't wanted any more: of all that are undecided, keep these."""
        for number, attempt in list(self.attempts.items()):
            if not attempt.decided and number not in undecided:
                if attempt.trial is not None:
                    attempt.trial.drop()
                del self.attempts[number]

    def end_trials(self, kept: Collection[Attempt] = ()) -> None:
        """End the trials that go on, but for those of some attempts."""
        for attempt in self.attempts.values():
            if attempt.trial is not None and not any(attempt is other for other in kept):
                attempt.trial.drop()

    def check_config(self, serving: Collection[int], *, same: bool) -> None:
        """Check a new configuration, when all is decided.

        Args:
            serving: versions that answer calls.
            same: whether those are loaded as it asks.

        Raises:
            ModelLoadError: It costs what is served.
        """
        wanted = self.wanted(serving)
        refused = {n: attempt.refused for n, attempt in self.attempts.items() if attempt.refused}
        for number, reason in refused.items():
            labelled = number in self.config.version_labels.values() and number not in serving
            if labelled or (number in wanted and number in serving and not same):
                raise ModelLoadError(f"config.toml: version {number} can't be served with it: {reason}")
        if serving and not any(number in serving or number not in refused for number in wanted):
            raise ModelLoadError("config.toml: no version that it wants can be served")

    def outcomes(self, serving: Serving) -> Sequence[Outcome]:
        """Return what the versions become, when all is decided."""
        shown = {*self.wanted(serving), *self._refused(self.view)}
        digests = {n: self._digest(n) or serving.get(n, "") for n in shown}
        reasons = {n: self._reason(n) or (self.problem if digests[n] else "") for n in shown}
        if not any(digests.values()):
            digests |= serving
            reasons |= dict.fromkeys(serving, self.problem or _KEPT)
        return _outcomes(digests, reasons)

    def _reason(self, number: int) -> str:
        attempt = self.attempts.get(number)
        return attempt.refused if attempt is not None else ""

    def _digest(self, number: int) -> str:
        attempt = self.attempts[number]
        return attempt.tried.digest if attempt.tried is not None else ""

    def meanwhile(self, view: View, serving: Serving) -> Sequence[Outcome]:
        """Return what they are in a folder that has changed since, until it is decided what they become."""
        refused = self._refused(view)
        here = {n: stamps for n, stamps in view.versions.items() if n in serving or n in refused}
        wanted = replace(self, view=View(view.beside, here)).wanted(serving)
        digests = {n: serving.get(n, "") for n in {*refused, *(serving.keys() & wanted)}}
        reasons = {n: self._reason(n) or (self.problem if digests[n] else "") for n in digests}
        if not any(digests.values()):
            digests |= serving
            reasons |= dict.fromkeys(serving, self.problem)
        return _outcomes(digests, reasons)

    def _refused(self, view: View) -> Collection[int]:
        return {n for n, attempt in self.attempts.items() if attempt.refused and n in view.versions}


def _outcomes(digests: Mapping[int, str], reasons: Mapping[int, str]) -> Sequence[Outcome]:
    return [Outcome(number, digests[number], reasons[number]) for number in sorted(digests)]
