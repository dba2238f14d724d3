import os
import sys
from pathlib import Path

import pytest

from benchmarks.speed.measures import cpu_seconds, rss_mb, tree
from benchmarks.speed.plan import BARE
from benchmarks.speed.processes import PORT, ProcessError, free_port, serving

SILENT = "import signal; signal.pause()"


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_a_server_and_what_it_started_end_with_the_block(tmp_path: Path) -> None:
    two = BARE[1]

    with serving(two.command, tmp_path / "log", lambda address: True) as server:
        processes = tree(server.pid)
        assert [alive(pid) for pid in processes] == [True, True]
        assert rss_mb(server.pid) > 2 * 10

    assert not alive(server.pid)
    assert server.ready_s > 0


def test_a_server_that_prints_no_address_is_asked_until_it_answers(tmp_path: Path) -> None:
    asked: list[str] = []

    def answers(address: str) -> bool:
        asked.append(address)
        return len(asked) == 3

    with serving([sys.executable, "-c", SILENT, PORT], tmp_path / "log", answers) as server:
        assert asked == [server.address] * 3


@pytest.mark.parametrize(
    ("command", "message"),
    [
        pytest.param(["-c", "raise SystemExit('no model')"], "log did not start:\nno model", id="ends"),
        pytest.param(["-c", "raise SystemExit('no port')", PORT], "log did not start:\nno port", id="polled"),
        pytest.param(["-c", "print('hello')"], 'names no address: "hello"', id="other line"),
    ],
)
def test_a_server_that_does_not_start_is_an_error_with_its_log(
    tmp_path: Path, command: list[str], message: str
) -> None:
    with (
        pytest.raises(ProcessError, match=message),
        serving([sys.executable, *command], tmp_path / "log", lambda address: False),
    ):
        pass


def test_a_free_port_is_one_that_can_be_bound() -> None:
    assert 1024 < free_port() < 65536


def test_cpu_time_grows_with_work() -> None:
    before = cpu_seconds(os.getpid())
    while cpu_seconds(os.getpid()) < before + 0.05:
        sum(range(10_000))

    assert cpu_seconds(os.getpid()) > before


def test_a_process_that_has_ended_uses_nothing(tmp_path: Path) -> None:
    with serving(BARE[0].command, tmp_path / "log", lambda address: True) as server:
        pass

    assert (cpu_seconds(server.pid), rss_mb(server.pid)) == (0, 0)
