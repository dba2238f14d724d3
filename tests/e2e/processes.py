"""Starts the server as a process, as users do, and stops it by its id."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

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


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "service", "--grpc-address", "127.0.0.1:0", "--device", "cpu", *arguments]


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
