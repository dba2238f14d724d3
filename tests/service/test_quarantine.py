"""Whose run crashed a process, and how many crashes are too many."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping

import pytest

from service.quarantine import Quarantine
from service.suspects import CRASHES, new_record, suspect_in

BAD, GOOD = "b" * 64, "a" * 64
REASON = "quarantined: the process died 3 times while it ran; replace its file or load it anew"

PROGRAM = """
import ctypes, sys, threading
from service.suspects import NotedSuspects

BAD, GOOD = "b" * 64, "a" * 64
suspects = NotedSuspects(int(sys.argv[1]))
bad, good = suspects.running(BAD), suspects.running(GOOD)
runs, done = threading.Event(), threading.Event()

def run_good():
    with good:
        runs.set()
        done.wait()

def in_a_run():
    with bad:
        crash()

def crash():
    ctypes.string_at(0)

def beside_a_run():
    threading.Thread(target=run_good, daemon=True).start()
    runs.wait()

"""


@pytest.fixture
def record() -> Iterator[int]:
    descriptor = new_record()
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize(
    ("acts", "suspect"),
    [
        pytest.param("in_a_run()", BAD, id="the run crashes"),
        pytest.param("beside_a_run(); in_a_run()", BAD, id="the run crashes while another goes on"),
        pytest.param("beside_a_run(); crash()", GOOD, id="something else crashes beside one run"),
        pytest.param(
            "beside_a_run(); bad.__enter__(); threading.Thread(target=crash).start(); done.wait()",
            "",
            id="something else crashes beside several runs",
        ),
        pytest.param("crash()", "", id="nothing runs"),
        pytest.param(
            "\nfor _ in range(5000):\n  with bad: pass\nwith good: crash()", GOOD, id="runs have ended before"
        ),
    ],
)
def test_the_run_on_the_thread_that_crashed_is_to_blame(record: int, acts: str, suspect: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM + acts, str(record)], pass_fds=[record], check=False, timeout=60
    )

    assert -ended.returncode in CRASHES
    assert suspect_in(record) == suspect


def test_being_killed_is_no_crash() -> None:
    """Out of memory, the kernel sends it to whoever is large."""
    assert not CRASHES & {signal.SIGKILL, signal.SIGTERM}


@pytest.fixture
def told() -> list[Mapping[str, str]]:
    return []


def test_a_version_that_crashes_too_often_is_quarantined(told: list[Mapping[str, str]]) -> None:
    quarantine = Quarantine(3, told.append)
    for digest in (BAD, GOOD, BAD):
        quarantine.crashed(digest)
    assert told == []
    quarantine.crashed(BAD)
    assert told == [{BAD: REASON}]
    assert quarantine.reasons == {BAD: REASON}
    quarantine.crashed(BAD)  # of a worker that did not know it yet
    assert told == [{BAD: REASON}] * 2


def test_one_that_is_released_starts_anew(told: list[Mapping[str, str]]) -> None:
    quarantine = Quarantine(1, told.append)
    quarantine.crashed(BAD)
    quarantine.crashed(GOOD)
    quarantine.release(BAD)
    assert list(quarantine.reasons) == [GOOD]
    assert [sorted(reasons) for reasons in told] == [[BAD], [GOOD, BAD], [GOOD]]
    quarantine.release("unknown")
    assert len(told) == 3


def test_crashes_long_ago_are_forgotten(
    told: list[Mapping[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    quarantine = Quarantine(2, told.append)
    for now_s in (0.0, 601.0, 1202.0, 1801.0):
        monkeypatch.setattr("time.monotonic", lambda now_s=now_s: now_s)
        quarantine.crashed(BAD)
    assert len(told) == 1


def test_without_a_limit_nothing_is_quarantined(told: list[Mapping[str, str]]) -> None:
    quarantine = Quarantine(0, told.append)
    for _ in range(10):
        quarantine.crashed(BAD)
    assert (told, quarantine.reasons) == ([], {})
