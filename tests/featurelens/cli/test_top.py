from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurelens import Client, FeaturelensError
from featurelens.cli.readings import Reading, Window, parse, read
from featurelens.cli.top import calls, headline, models, number, refusals, seconds
from service.server import RunningServer
from tests.featurelens.conftest import DEAD_ADDRESS, Command
from tests.serving import serving

TEXT = """\
# HELP up A help.
# TYPE up counter
up_total 3.0
up_total{a="x"} 4
odd{a="q\\"\\\\\\n,}",b=""} +Inf
times_bucket{le="0.1"} 2
times_bucket{le="1.0"} 8
times_bucket{le="+Inf"} 10
"""


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serving(metrics_address="127.0.0.1:0", max_images_per_request=2) as server:
        yield server


def test_prometheus_text_is_parsed() -> None:
    assert dict(parse(TEXT)) == {
        ("up_total", frozenset()): 3,
        ("up_total", frozenset({("a", "x")})): 4,
        ("odd", frozenset({("a", 'q"\\\n,}'), ("b", "")})): float("inf"),
        ("times_bucket", frozenset({("le", "0.1")})): 2,
        ("times_bucket", frozenset({("le", "1.0")})): 8,
        ("times_bucket", frozenset({("le", "+Inf")})): 10,
    }


@pytest.mark.parametrize(("share", "value"), [(0.1, 0.05), (0.2, 0.1), (0.5, 0.55), (0.8, 1.0), (0.99, 1.0)])
def test_quantiles_are_interpolated_as_prometheus_does(share: float, value: float) -> None:
    window = Window(None, Reading(0, dict(parse(TEXT))))

    assert window.quantile(share, "times") == pytest.approx(value)
    assert Window(window.after, window.after).quantile(share, "times") is None


def test_a_counter_that_began_anew_grew_by_what_it_has() -> None:
    window = Window(Reading(0, {("n", frozenset()): 7.0}), Reading(2, {("n", frozenset()): 3.0}))

    assert (window.growth("n"), window.rate("n")) == (3, 1.5)


def test_rows_tell_what_happened_between_two_looks(server: RunningServer, seven: Path) -> None:
    with Client(server.address) as client:
        client.classify(seven)
        before = read(server.metrics_address, 10)
        for _ in range(4):
            client.classify(seven, layers=["conv1"])
        with pytest.raises(FeaturelensError):
            client.classify(seven, model="nope")
        after = read(server.metrics_address, 10)
    window = Window(Reading(100.0, before.values), Reading(102.0, after.values))

    by_method = {row[0]: row for row in calls(window)}
    _, rate, median, _, in_progress, failed = by_method["Classify"]
    assert (rate, in_progress, failed) == ("2.50", "0", "NotFound 0.50")
    assert median.split()[1] in {"us", "ms"}
    (model,) = models(window)
    assert model[:7] == ["lenet", "1", "ready", "CPUExecutionProvider", "2.00", "2.00", "1.00"]
    assert model[9:] == ["0", ""]
    assert headline(window, "here").startswith("here: featurelens ")
    assert ", 1 of 1 workers, " in headline(window, "here")
    assert headline(window, "here").endswith(" MiB; the last 2.00 s")
    assert refusals(window) == "refused/s: none"


def test_a_pipe_gets_one_look(server: RunningServer, command: Command) -> None:
    ended = command("top", "--metrics", server.metrics_address, "--interval", "0.1")
    lines = ended.out.splitlines()

    assert ended.status == 0
    assert lines[0].startswith(f"{server.metrics_address}: featurelens ")
    assert lines[1].split()[0] == "METHOD"
    assert any(line.startswith("lenet  1        ready  CPUExecutionProvider") for line in lines)
    assert lines[-1] == "refused/s: none"


def test_a_terminal_is_redrawn_until_ctrl_c(server: RunningServer) -> None:
    terminal, end = pty.openpty()
    program = "from featurelens.cli import main; main()"
    arguments = ["top", "--metrics", server.metrics_address, "--interval", "0.1"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=end,
        stdout=end,
        stderr=end,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "160", "LINES": "40"},
    )
    os.close(end)
    shown = b""
    try:
        while shown.count(b"lenet") < 3:
            shown += os.read(terminal, 65536)
        process.send_signal(signal.SIGINT)
        while part := _read(terminal):
            shown += part
        status = process.wait(20)
    finally:
        process.kill()
        process.wait()
        os.close(terminal)

    text = re.sub(r"\x1b\[[0-9;?]*\w", "", shown.decode())
    assert status == 0
    assert "since its start" in text
    assert "the last" in text
    assert "CPUExecutionProvider" in text
    assert "Traceback" not in text


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # nobody has the other end open any more
        return b""


def test_where_no_metrics_are_is_one_line_and_status_2(command: Command) -> None:
    ended = command("top", "--once", "--metrics", DEAD_ADDRESS)

    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith(f"featurelens: no metrics at {DEAD_ADDRESS}: ")
    assert "--metrics takes that address" in ended.err


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.456, "0.46"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.00031, "310 us"), (0.00124, "1.24 ms"), (12, "12.0 s"), (0, "0 us")]
)
def test_durations_have_a_fitting_unit(value: float, text: str) -> None:
    assert seconds(value) == text
