"""The supervisor asks all workers, remembers what a dead one had answered, and says how many there are."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import TypeVar

from service.channel import JSON
from service.peers import INDEX, Census
from service.port import held
from service.supervisor import Supervisor

T = TypeVar("T")
WORKERS = 2


def while_running(look: Callable[[Supervisor], T]) -> T:
    """Run workers, look at them once they serve, and end them as their operator would."""
    seen: list[T] = []
    with held("127.0.0.1:0") as address:
        flags = ["--device", "cpu", f"--grpc-address={address}", f"--workers={WORKERS}"]
        supervisor = Supervisor(WORKERS, flags)

        def announce(models: Sequence[str]) -> None:
            assert list(models) == ["lenet"]
            seen.append(look(supervisor))
            os.kill(os.getpid(), signal.SIGTERM)

        assert supervisor.run(announce) is None
    return seen[0]


def test_all_workers_answer_and_are_counted() -> None:
    def look(supervisor: Supervisor) -> tuple[JSON, Census]:
        return supervisor.ask_all(INDEX, None, timeout_s=10), supervisor.census()

    assert while_running(look) == (
        [[["lenet", "1", "ready", ""]]] * WORKERS,
        Census(alive=WORKERS, wanted=WORKERS, restarts=0),
    )


def test_a_question_that_nobody_can_answer_has_no_answers() -> None:
    assert while_running(lambda supervisor: supervisor.ask_all("what", None, timeout_s=10)) == []
