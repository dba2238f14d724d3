"""Load from h2load, the C client of nghttp2: so many connections, each with so many calls in flight."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

_FRAME_HEADER_BYTES = 5
_GRPC_HEADERS = ("content-type: application/grpc", "te: trailers")
_CLOSING_S = 30
# Columns of h2load's --log-file: start in us, HTTP status, us to the end of the response.
_STATUS, _MICROSECONDS = 1, 2


class LoadError(Exception):
    """The load could not be made; the message says why."""


@dataclass(frozen=True)
class Shape:
    """How calls come in."""

    connections: int
    streams: int
    """Calls in flight on each connection."""

    @property
    def in_flight(self) -> int:
        """Calls in flight at any time."""
        return self.connections * self.streams

    def __str__(self) -> str:
        return f"{self.connections}x{self.streams}"


@dataclass(frozen=True)
class Load:
    """What came of it."""

    seconds: float
    milliseconds: NDArray[np.float64]
    """How long each call that ended took."""
    data_bytes: int
    """Of all answers, with those that the end cut off."""
    failed: int
    """Calls without HTTP status 200."""

    def without_answer(self, smallest_answer: int) -> int:
        """Return how many calls at least ended without one: gRPC errors have HTTP status 200 and no data."""
        answers = self.data_bytes // (smallest_answer + _FRAME_HEADER_BYTES)
        return max(0, len(self.milliseconds) - answers)


def h2load() -> str:
    """Find h2load.

    Raises:
        LoadError: it is not installed.
    """
    if path := shutil.which("h2load"):
        return path
    raise LoadError("h2load is missing; install it: apt-get install nghttp2-client")


def frame(messages: Sequence[bytes]) -> bytes:
    """Return the body of a gRPC call: a 0 for "not compressed", the length, the message."""
    return b"".join(b"\0" + len(message).to_bytes(4, "big") + message for message in messages)


def load(address: str, path: str, messages: Sequence[bytes], shape: Shape, seconds: float) -> Load:
    """Call for so many seconds, each call with the same messages.

    Raises:
        LoadError: h2load failed or did not end.
    """
    with TemporaryDirectory(prefix="bench-") as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(frame(messages))
        command = [h2load(), f"-c{shape.connections}", f"-m{shape.streams}", f"-D{round(seconds * 1000)}ms"]
        command += ["-d", str(body), f"--log-file={log}", *(f"-H{header}" for header in _GRPC_HEADERS)]
        output = _run([*command, f"http://{address}{path}"], seconds + _CLOSING_S)
        rows = np.loadtxt(log, dtype=np.int64, ndmin=2) if log.stat().st_size else np.empty((0, 3), np.int64)
    good = rows[rows[:, _STATUS] == 200]
    return Load(seconds, good[:, _MICROSECONDS] / 1000, _data_bytes(output), len(rows) - len(good))


def _run(command: Sequence[str], timeout_s: float) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"h2load did not end within {timeout_s:.0f} s") from error
    if done.returncode:
        raise LoadError(f"h2load ended with exit status {done.returncode}: {done.stderr[-500:]}")
    return done.stdout


def _data_bytes(output: str) -> int:
    if not (found := re.search(r"\((\d+)\) data$", output, re.MULTILINE)):
        raise LoadError(f"h2load printed no traffic: {output[-500:]}")
    return int(found[1])
