"""The processes that share a port, as each of them sees them: whoever answers a caller answers for all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from service.channel import JSON

STATISTICS = "statistics"
"""What a process has counted. Outlives it: its last answer is handed to the process in its place."""
INDEX = "index"
"""The states of all versions in a process."""

_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Census:
    """How many processes serve the port."""

    alive: int
    wanted: int
    restarts: int
    """Processes that were put in the place of one that had ended."""


class Peers(ABC):
    """All processes that serve one port, this one included.

    Attributes:
        count: how many there are meant to be.
        inherited: the last answers of the process in whose place this one is, by question.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.inherited: Mapping[str, JSON] = {}
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
    def ask_all(self, question: str, argument: JSON = None, timeout_s: float = _TIMEOUT_S) -> list[JSON]:
        """Return the answers of all processes; those that are gone or take too long are left out.

        Blocks: not for the thread of an event loop.
        """

    @abstractmethod
    def census(self) -> Census:
        """Count the processes. Blocks, too."""


class Alone(Peers):
    """The peers of a process that has the port to itself."""

    def __init__(self) -> None:
        super().__init__(1)

    def ask_all(self, question: str, argument: JSON = None, timeout_s: float = _TIMEOUT_S) -> list[JSON]:
        """Return this process's answer."""
        return [self.own_answer(question, argument)]

    def census(self) -> Census:
        """Count one."""
        return Census(alive=1, wanted=1, restarts=0)
