"""The processes that share a port, as each of them sees them: whoever answers a caller answers for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from service.channel import JSON
from service.suspects import Suspects

STATISTICS = "statistics"
"""What a process has counted. Outlives it: its last answer is handed to the process in its place."""
COUNTED = "counted"
"""Metrics that count up. Outlives it as well."""
PRESENT = "present"
"""Metrics that tell how things are now."""
INDEX = "index"
"""The states of all versions in a process."""

SERVED = "served"
"""The versions that a process serves or has refused, and its labels of them. Outlives it, too."""

QUARANTINE = "quarantine"
"""Tells a process which versions it must not run, and why, by the digests of their files."""

_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Census:
    """How many processes serve the port."""

    alive: int
    wanted: int
    restarts: int
    """Processes that were put in the place of one that had ended."""


class Respondents(Protocol):
    """Whoever can ask the processes that serve one port."""

    def ask_all(self, question: str, argument: JSON, timeout_s: float) -> list[JSON]:
        """Return the answers of all processes that give one in time."""

    def census(self) -> Census:
        """Count the processes."""


class Peers(ABC):
    """All processes that serve one port, this one included.

    Attributes:
        count: how many there are meant to be.
        leads: whether this one decides for all.
        inherited: the last answers of the process in whose place this one is, by question.
        suspects: where this one notes what may crash it.
    """

    def __init__(self, count: int, *, leads: bool = True) -> None:
        self.count = count
        self.leads = leads
        self.inherited: Mapping[str, JSON] = {}
        self.suspects = Suspects()
        self._answers: dict[str, Callable[[JSON], JSON]] = {}

    def answer(self, question: str, how: Callable[[JSON], JSON]) -> None:
        """Have this process answer a question. `how` runs on any thread, and must not ask all itself."""
        self._answers[question] = how

    def own_answer(self, question: str, argument: JSON = None) -> JSON:
        """Answer for this process alone.

        Raises:
            LookupError: nobody has said how.
        """
        return self._answers[question](argument)

    @abstractmethod
    def join(self) -> None:
        """Be asked from now on: the answers are there, before the first caller is. Blocks."""

    @abstractmethod
    def ask_all(self, question: str, argument: JSON = None, timeout_s: float = _TIMEOUT_S) -> list[JSON]:
        """Return the answers of all processes; those that are gone or take too long are left out.

        Blocks: not for the thread of an event loop.
        """

    @abstractmethod
    def census(self) -> Census:
        """Count the processes. Blocks, too."""

    @abstractmethod
    def release(self, digest: str) -> None:
        """Let all processes run the version with this digest, whatever it did. Blocks, too."""


class Alone(Peers):
    """The peers of a process that has the port to itself."""

    def __init__(self) -> None:
        super().__init__(1)

    def join(self) -> None:
        """Do nothing: nobody else asks."""

    def ask_all(self, question: str, argument: JSON = None, timeout_s: float = _TIMEOUT_S) -> list[JSON]:
        """Return this process's answer."""
        return [self.own_answer(question, argument)]

    def census(self) -> Census:
        """Count one."""
        return Census(alive=1, wanted=1, restarts=0)

    def release(self, digest: str) -> None:
        """Do nothing: without a supervisor there is no quarantine."""
