"""The place of one worker: a process that is replaced when it dies, and what it leaves behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from threading import Event, Lock, Thread

import structlog
from structlog.typing import FilteringBoundLogger

from service import supervised
from service.channel import JSON, Answer, ChannelClosedError, NoAnswerError
from service.peers import COUNTED, QUARANTINE, SERVED, STATISTICS
from service.quarantine import Quarantine
from service.worker_process import WorkerProcess

_log: FilteringBoundLogger = structlog.get_logger()

REMEMBERED = frozenset({COUNTED, STATISTICS, SERVED})
"""Questions whose last answer outlives the worker that gave it."""

# Before a worker is replaced: longer each time it dies, unless it has lived for long.
_PAUSES_S = (0.0, 1.0, 3.0, 7.0, 15.0, 30.0)
_LONG_LIFE_S = 60.0


class Slot:
    """One of the workers.

    Attributes:
        number: which one, from 1.
        models: what its process serves; None while there is none or it is starting.
        failure: why its first process could not start, if so.
        restarts: how often the process was replaced.
        ended: whether there will be no process any more.
    """

    def __init__(
        self,
        number: int,
        arguments: Sequence[str],
        answer: Answer,
        answerers: Executor,
        changed: Callable[[], None],
        quarantine: Quarantine,
    ) -> None:
        """Prepare.

        Args:
            number: Which one.
            arguments: The flags of the server.
            answer: Answers the questions of a process that aren't about this slot.
            answerers: Threads for that.
            changed: Called on any thread when an attribute has changed.
            quarantine: What the process must not run, and is told what crashed it.
        """
        self.number = number
        self.models: list[str] | None = None
        self.failure: str | None = None
        self.restarts = 0
        self.ended = False
        self._arguments = arguments
        self._answer_others = answer
        self._answerers = answerers
        self._changed = changed
        self._quarantine = quarantine
        self._memory: dict[str, JSON] = {}
        self._joined = False
        self._reason = ""
        self._has_served = False
        self._stopping = Event()
        self._worker: WorkerProcess | None = None
        self._lock = Lock()
        self._thread = Thread(target=self._keep_filled, name=f"worker-{number}", daemon=True)

    def start(self) -> None:
        """Start a process, and others in its place, until `stop` or `kill`."""
        self._thread.start()

    def stop(self) -> None:
        """Let the process drain and end; start no other."""
        self._stopping.set()
        with self._lock:
            if self._worker is not None:
                self._worker.channel.ask(supervised.STOP)

    def kill(self) -> None:
        """End the process at once; start no other."""
        self._stopping.set()
        with self._lock:
            if self._worker is not None:
                self._worker.kill()
        self._thread.join()

    def look_after(self, timeout_s: float) -> None:
        """End a process that serves and hasn't given a sign of life for so long; another takes its place."""
        with self._lock:
            worker = self._worker if self.models is not None else None
        if worker is not None and (silent_s := worker.silent_s()) > timeout_s:
            self._reason = f"worker {self.number} hung: no sign of life for {silent_s:.0f} s"
            worker.kill()

    def ask(self, question: str, argument: JSON) -> Future[JSON] | None:
        """Ask the process, if it is there and has answers."""
        return self._worker.channel.ask(question, argument) if self._worker and self._joined else None

    def recall(self, question: str, asked: Future[JSON] | None, timeout_s: float) -> list[JSON]:
        """Wait for an answer; without one, take the last that is remembered. Return one or none."""
        if asked is not None:
            try:
                answer = asked.result(timeout_s)
            except (ChannelClosedError, NoAnswerError, TimeoutError):
                pass
            else:
                if question in REMEMBERED:
                    self._memory[question] = answer
                return [answer]
        return [self._memory[question]] if question in self._memory else []

    def _keep_filled(self) -> None:
        deaths = 0  # in short succession
        while not self._stopping.is_set():
            started_s = time.monotonic()
            reason = self._run_one()
            if self._stopping.is_set():
                break
            if not self._has_served:
                self.failure = reason
                break
            deaths = 0 if time.monotonic() - started_s > _LONG_LIFE_S else deaths
            pause_s = _PAUSES_S[min(deaths, len(_PAUSES_S) - 1)]
            _log.error("a worker ended", worker=self.number, reason=reason, replaced_in_s=pause_s)
            self._stopping.wait(pause_s)
            deaths += 1
            self.restarts += 1
        self.ended = True
        self._changed()

    def _run_one(self) -> str:
        """Run a process to its end, and say why it ended."""
        self._reason = ""
        try:
            with self._lock:
                if self._stopping.is_set():
                    return ""
                self._worker = WorkerProcess(self.number, self._arguments, self._answer, self._answerers)
        except OSError as error:
            return f"worker {self.number} can't be started: {error.strerror}"
        end = self._worker.run_to_its_end()
        self._joined, self.models = False, None
        if self._worker.suspect:
            self._quarantine.crashed(self._worker.suspect)
        return self._reason or f"worker {self.number} {end}"

    def _answer(self, question: str, argument: JSON) -> JSON:
        match question:
            case supervised.INHERITED:
                return {**self._memory, QUARANTINE: self._quarantine.reasons}
            case supervised.JOINED:
                self._joined = True
                self.ask(QUARANTINE, self._quarantine.reasons)  # they may be others by now
            case supervised.SERVING:
                self.models = argument
                if self._has_served:
                    _log.info("a worker serves again", worker=self.number, restarts=self.restarts)
                self._has_served = True
            case supervised.FAILED:
                self._reason = argument
            case _:
                return self._answer_others(question, argument)
        self._changed()
        return None
