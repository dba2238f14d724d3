"""A worker's side of the supervision: what it is told, what it tells, and its peers, reached that way."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

from service.channel import JSON, Channel, ChannelClosedError
from service.peers import QUARANTINE, Census, Peers
from service.suspects import NotedSuspects

# What a worker asks its supervisor, or tells it.
INHERITED = "inherited"
JOINED = "joined"
SERVING = "serving"
FAILED = "failed"
ASK_ALL = "ask all"
CENSUS = "census"
RELEASE = "release"
# What the supervisor tells a worker; every other question is for its peers' answers.
STOP = "stop"
# What it asks again and again: the answer comes from the thread that takes calls.
ALIVE = "alive"

_ANSWERERS = 4
# The supervisor waits for all workers, and is given this much longer, or this long by itself.
_TIMEOUT_S = 2.0
# At the start, when all processes compete for the CPUs, and no caller waits yet.
_START_TIMEOUT_S = 60.0


class Supervised(Peers):
    """The workers of a supervisor. If it is gone, this one is alone.

    Attributes:
        stop: set when the worker is to end: it was told, or the supervisor is gone.
    """

    def __init__(self, end: socket.socket, record: int, number: int, count: int) -> None:
        """Talk to the supervisor over a connected socket, until `close`.

        Args:
            end: The socket.
            record: Where to note what runs: a descriptor.
            number: Which worker this is, from 1.
            count: How many there are.
        """
        super().__init__(count, leads=number == 1)
        self.stop = Event()
        self._answerers = ThreadPoolExecutor(_ANSWERERS, thread_name_prefix="answer")
        self._supervisor = Channel(end, self._answer, self._answerers)
        Thread(target=self._listen, name="supervisor", daemon=True).start()
        self.inherited = self._ask(INHERITED, None, {}, _START_TIMEOUT_S)
        self.suspects = NotedSuspects(record)
        self.suspects.quarantined = self.inherited.get(QUARANTINE, {})

    def join(self) -> None:
        """Tell that questions are answered."""
        self._ask(JOINED, None, None, _START_TIMEOUT_S)

    def serving(self, models: tuple[str, ...]) -> None:
        """Tell that calls are answered."""
        self._ask(SERVING, models, None)

    def failed(self, reason: str) -> None:
        """Tell why this worker can't start."""
        self._ask(FAILED, reason, None, _START_TIMEOUT_S)

    def close(self) -> None:
        """Leave; the supervisor takes this for the end of the process."""
        self._supervisor.close()
        self._answerers.shutdown()

    def ask_all(self, question: str, argument: JSON = None, timeout_s: float = _TIMEOUT_S) -> list[JSON]:
        """Ask every worker, this one included."""
        wanted = {"question": question, "argument": argument, "timeout_s": timeout_s}
        answers: list[JSON] | None = self._ask(ASK_ALL, wanted, None, timeout_s)
        return [self.own_answer(question, argument)] if answers is None else answers

    def census(self) -> Census:
        """Ask the supervisor."""
        return Census(**self._ask(CENSUS, None, {"alive": 1, "wanted": self.count, "restarts": 0}))

    def release(self, digest: str) -> None:
        """Have the supervisor tell all workers."""
        self._ask(RELEASE, digest, None)

    def _ask(self, question: str, argument: JSON, otherwise: JSON, timeout_s: float = 0.0) -> JSON:
        try:
            return self._supervisor.ask(question, argument).result(timeout_s + _TIMEOUT_S)
        except (ChannelClosedError, TimeoutError):
            return otherwise

    def _listen(self) -> None:
        self._supervisor.listen()
        self.stop.set()

    def _answer(self, question: str, argument: JSON) -> JSON:
        if question == STOP:
            self.stop.set()
            return None
        return self.own_answer(question, argument)
