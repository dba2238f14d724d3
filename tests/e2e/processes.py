"""Starts the server as a process, as users do, and stops it by its id."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_S = 60


@dataclass(frozen=True)
class ServerProcess:
    process: subprocess.Popen[str]
    line: str
    address: str

    def terminate(self) -> int:
        """Send SIGTERM and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(TIMEOUT_S)

    @property
    def resident_bytes(self) -> int:
        """What the process holds in memory."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def workers(self) -> set[int]:
        """Return the ids of the processes that it has started."""
        processes = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
        return {process for process in processes if _parent(process) == self.process.pid}


def _parent(process: int) -> int | None:
    """Read the parent from /proc: the second field after the name, which stands in parentheses."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def has_ended(process: int, timeout_s: float = TIMEOUT_S) -> bool:
    """Wait for the end of a process that need not be a child."""
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)


def lines_of(log: Path, event: str) -> list[dict[str, Any]]:
    """Return the lines of a server's log about an event."""
    written, _, _ = log.read_text().rpartition("\n")  # what follows is being written
    return [line for line in map(json.loads, written.splitlines()) if line["event"] == event]


def command(*arguments: str) -> list[str]:
    chosen = ["--grpc-address", "127.0.0.1:0", "--metrics-address", "", "--device", "cpu", *arguments]
    return [sys.executable, "-m", "service", *chosen]


@contextmanager
def server_process(
    *arguments: str,
    cwd: Path | None = None,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[ServerProcess]:
    """Run `python -m service` until the block is left; it is ready when the block is entered."""
    with (log or Path(os.devnull)).open("w") as stderr:
        process = subprocess.Popen(
            command(*arguments), stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=cwd, env=environment
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.search(r" on (\S+)$", line)
        assert match, f"the server printed {line!r}"
        yield ServerProcess(process, line, match[1])
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def run_to_its_end(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, **environment},
        check=False,
    )


def until_not_serving(channel: grpc.Channel) -> None:
    """Wait until the server's health says that it drains."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    assert any(answer.status == health_pb2.HealthCheckResponse.NOT_SERVING for answer in watch)
