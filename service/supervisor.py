"""Serves one port with several workers: starts and stops them, and carries questions between them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from queue import Empty, SimpleQueue
from types import FrameType

import structlog
from structlog.typing import FilteringBoundLogger

from service.channel import JSON
from service.errors import StartupError
from service.peers import QUARANTINE, Census
from service.quarantine import Quarantine
from service.slot import REMEMBERED, Slot
from service.supervised import ASK_ALL, CENSUS, RELEASE

_log: FilteringBoundLogger = structlog.get_logger()

# How often that is asked for which outlives a worker: what is newer dies with it.
_REMEMBER_EVERY_S = 1.0
# Workers that are told late are told again at the next crash.
_TELL_S = 2.0


class Supervisor:
    """The workers of one port."""

    def __init__(
        self,
        count: int,
        arguments: Sequence[str],
        crashes: int = 0,
        hang_s: float = 10.0,
        end_s: float = 60.0,
    ) -> None:
        """Prepare.

        Args:
            count: How many workers.
            arguments: The flags that they take.
            crashes: After how many a version is quarantined; 0: never.
            hang_s: After how long without a sign of life a worker is replaced.
            end_s: What workers may take to end once they are told to.
        """
        self._hang_s = hang_s
        self._end_s = end_s
        self._answerers = ThreadPoolExecutor(2 * count, thread_name_prefix="answer")
        # Signal handlers may put into a SimpleQueue. None: a slot has changed.
        self._events: SimpleQueue[signal.Signals | None] = SimpleQueue()
        quarantine = self._quarantine = Quarantine(crashes, self._tell_quarantine)
        self._slots = [
            Slot(
                number,
                arguments,
                self._answer,
                self._answerers,
                lambda: self._events.put(None),
                quarantine,
            )
            for number in range(1, count + 1)
        ]

    def run(self, announce: Callable[[Sequence[str]], None]) -> signal.Signals | None:
        """Serve until SIGTERM or SIGINT comes and all workers have drained.

        Args:
            announce: Called once, with the names of the models, when all workers serve.

        Returns:
            The second signal, if one came: the workers were ended at once.

        Raises:
            StartupError: a worker can't start; the others were ended.
        """
        before = {number: signal.signal(number, self._hear) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            for slot in self._slots:
                slot.start()
            if self._until_all_serve() is None:
                announce(self._models())
                self._until_signal()
            for slot in self._slots:
                slot.stop()
            return self._until_ended()
        finally:
            for slot in self._slots:
                slot.kill()
            self._answerers.shutdown()
            for number, handler in before.items():
                signal.signal(number, handler)

    def ask_all(self, question: str, argument: JSON, timeout_s: float) -> list[JSON]:
        """Return the answers of all workers; of one that gives none, what is remembered, if anything."""
        end_s = time.monotonic() + timeout_s
        asked = [(slot, slot.ask(question, argument)) for slot in self._slots]
        return [
            answer
            for slot, future in asked
            for answer in slot.recall(question, future, max(0.0, end_s - time.monotonic()))
        ]

    def census(self) -> Census:
        """Count the workers."""
        return Census(
            alive=sum(slot.models is not None for slot in self._slots),
            wanted=len(self._slots),
            restarts=sum(slot.restarts for slot in self._slots),
        )

    def _tell_quarantine(self, reasons: Mapping[str, str]) -> None:
        self.ask_all(QUARANTINE, reasons, _TELL_S)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        self._events.put(signal.Signals(number))

    def _models(self) -> list[str]:
        """Name the models that all workers serve."""
        first, *others = (slot.models or [] for slot in self._slots)
        return [name for name in first if all(name in models for models in others)]

    def _until_all_serve(self) -> signal.Signals | None:
        """Wait for the workers; return a signal if it comes first."""
        while any(slot.models is None for slot in self._slots):
            if failures := [slot.failure for slot in self._slots if slot.failure]:
                raise StartupError(failures[0])
            if (event := self._events.get()) is not None:
                return event
        return None

    def _until_signal(self) -> signal.Signals:
        """Look after the workers' memory until a signal comes."""
        while True:
            try:
                if (event := self._events.get(timeout=_REMEMBER_EVERY_S)) is not None:
                    return event
            except Empty:
                for slot in self._slots:
                    slot.look_after(self._hang_s)
                for question in REMEMBERED:
                    self.ask_all(question, None, _REMEMBER_EVERY_S)

    def _until_ended(self) -> signal.Signals | None:
        """Wait for the workers to drain and end, not for ever; return a signal if it comes first."""
        end_s = time.monotonic() + self._end_s
        while not all(slot.ended for slot in self._slots):
            try:
                if (event := self._events.get(timeout=max(0.0, end_s - time.monotonic()))) is not None:
                    return event
            except Empty:
                _log.error("workers did not end in time; ending them", seconds=self._end_s)
                return None
        return None

    def _answer(self, question: str, argument: JSON) -> JSON:
        """Answer a worker's question."""
        if question == ASK_ALL:
            return self.ask_all(**argument)
        if question == CENSUS:
            return asdict(self.census())
        if question == RELEASE:
            return self._quarantine.release(argument)
        raise LookupError(question)
