"""Starts and stops the processes that are measured: only those it started, by their ids."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, Popen, TimeoutExpired
from tempfile import TemporaryDirectory
from threading import Event, Timer

PORT = "{port}"
_PORTS_IN_A_ROW = 5
_START_S, _STOP_S, _POLL_S = 120, 30, 0.05
_ADDRESS = re.compile(r"(127\.0\.0\.1:\d+)\s*$")


class ProcessError(Exception):
    """A process did not start, or did not do what was asked; the message has the end of its log."""


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    address: str
    pid: int
    ready_s: float
    """From the start of the process to its first line, or its first right answer."""


@contextmanager
def running(command: Sequence[str], log: Path, output: int | None = PIPE) -> Iterator[Popen[str]]:
    """Run a program with pipes to it, its errors in `log`; end it and all that it started.

    `output` None sends its standard output to the log too. What it leaves in TMPDIR is deleted.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="bench-") as folder:
        with log.open("w") as errors:
            process = Popen(
                command,
                stdin=PIPE,
                stdout=errors if output is None else output,
                stderr=errors,
                text=True,
                start_new_session=True,
                env=os.environ | {"TMPDIR": folder},
            )
        try:
            yield process
        finally:
            _stop(process)


@contextmanager
def serving(command: Sequence[str], log: Path, answers: Callable[[str], bool]) -> Iterator[Server]:
    """Run a server whose first line ends with its address.

    One that prints none has `{port}` in its command, and is ready when it `answers` at that address.

    Raises:
        ProcessError: it ended, or was not ready within two minutes.
    """
    started = time.monotonic()
    if PORT not in command:
        with running(command, log) as process:
            address = _address(first_line(process, log))
            yield Server(address, process.pid, time.monotonic() - started)
    else:
        port = free_port()
        with running([str(port) if word == PORT else word for word in command], log, None) as process:
            address = f"127.0.0.1:{port}"
            _wait(lambda: answers(address), process, log)
            yield Server(address, process.pid, time.monotonic() - started)


def first_line(process: Popen[str], log: Path) -> str:
    """Wait for the line that a program prints when it is ready.

    Raises:
        ProcessError: none came.
    """
    assert process.stdout is not None
    deadline = Timer(_START_S, process.kill)
    deadline.start()
    line = process.stdout.readline()
    deadline.cancel()
    if not line:
        raise _not_started(log)
    return line


def free_port() -> int:
    """Return a port that is free, as are the next four, which some servers take too."""
    while True:
        with ExitStack() as stack, suppress(OSError):
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            for port in range(first + 1, first + _PORTS_IN_A_ROW):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return int(first)


def _address(line: str) -> str:
    if not (found := _ADDRESS.search(line)):
        raise ProcessError(f'the first line names no address: "{line.strip()}"')
    return found[1]


def _wait(ready: Callable[[], bool], process: Popen[str], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    pause = Event()
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise _not_started(log)
        pause.wait(_POLL_S)


def _not_started(log: Path) -> ProcessError:
    return ProcessError(f"{log.stem} did not start:\n{log.read_text()[-2000:]}")


def _stop(process: Popen[str]) -> None:
    """Ask the program to end; what it leaves behind of its session is killed."""
    process.terminate()
    try:
        process.communicate(timeout=_STOP_S)
    except TimeoutExpired:
        process.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
