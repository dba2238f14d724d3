"""The supervisor asks all workers, remembers what a dead one had answered, and says how many there are."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from service.channel import JSON
from service.peers import INDEX, Census
from service.port import held
from service.supervisor import Supervisor
from tests.e2e.processes import has_ended

T = TypeVar("T")
WORKERS = 2


def while_running(look: Callable[[Supervisor], T], end_s: float = 60.0) -> T:
    """Run workers, look at them once they serve, and end them as their operator would."""
    seen: list[T] = []
    with held("127.0.0.1:0") as address:
        flags = ["--device", "cpu", f"--grpc-address={address}", f"--workers={WORKERS}"]
        supervisor = Supervisor(WORKERS, flags, end_s=end_s)

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


def test_workers_that_hang_are_ended_with_the_supervisor() -> None:
    def stop_one(_supervisor: Supervisor) -> int:
        process, _ = children()
        os.kill(process, signal.SIGSTOP)
        return process

    assert has_ended(while_running(stop_one, end_s=0.5))


def children() -> list[int]:
    """Return the ids of the processes that this one has started."""
    folders = Path("/proc/self/task").iterdir()
    return [int(child) for task in folders for child in (task / "children").read_text().split()]
