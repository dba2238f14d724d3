"""Starts and stops the processes that are measured: only those it started, by their ids."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

_START_S, _STOP_S = 120, 30
_ADDRESS = re.compile(r"(127\.0\.0\.1:\d+)\s*$")


class ProcessError(Exception):
    """A process did not start, or did not do what was asked; the message has the end of its log."""


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    address: str
    pid: int
    ready_s: float
    """From the start of the process to its first line, which says that it is ready."""


@contextmanager
def running(
    command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """Run a program with pipes to it, its errors in `log`; end it and all that it started."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _stop(process)


@contextmanager
def serving(
    command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run a server whose first line ends with its address.

    Raises:
        ProcessError: it ended, or said nothing for two minutes.
    """
    started = time.monotonic()
    with running(command, log, environment) as process:
        line = first_line(process, log)
        ready_s = time.monotonic() - started
        if not (found := _ADDRESS.search(line)):
            raise ProcessError(f'the first line names no address: "{line.strip()}"')
        yield Server(found[1], process.pid, ready_s)


def first_line(process: subprocess.Popen[str], log: Path) -> str:
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
        raise ProcessError(f"{log.stem} did not start:\n{log.read_text()[-2000:]}")
    return line


def _stop(process: subprocess.Popen[str]) -> None:
    """Ask the program to end; what it leaves behind of its session is killed."""
    process.terminate()
    try:
        process.communicate(timeout=_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
