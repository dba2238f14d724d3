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

from benchmarks.speed.protocols import Protocol

_CLOSING_S = 30
# Columns of h2load's --log-file: start in us, HTTP status, us to the end of the response.
_STATUS, _MICROSECONDS = 1, 2
# 0: a status line without a reason phrase, as TorchServe sends, which h2load can't read.
_GOOD = (200, 0)


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
    """Calls that ended with another HTTP status than 200."""

    def without_answer(self, smallest: int) -> int:
        """Return how many calls at least got none: gRPC errors have HTTP status 200 and no data.

        `smallest` is how many bytes of data an answer has at least.
        """
        return max(0, len(self.milliseconds) - self.data_bytes // smallest)


def h2load() -> str:
    """Find h2load.

    Raises:
        LoadError: it is not installed.
    """
    if path := shutil.which("h2load"):
        return path
    raise LoadError("h2load is missing; install it: apt-get install nghttp2-client")


def frame(messages: Sequence[bytes]) -> bytes:
    """Return the body of a gRPC call: for each message 0 for "not compressed", its length, itself.

    See https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
    """
    return b"".join(b"\0" + len(message).to_bytes(4, "big") + message for message in messages)


def load(address: str, protocol: Protocol, messages: Sequence[bytes], shape: Shape, seconds: float) -> Load:
    """Call for so many seconds, each call with the same messages.

    Raises:
        LoadError: h2load failed or did not end.
    """
    with TemporaryDirectory(prefix="bench-") as folder:
        body, log = Path(folder, "body"), Path(folder, "log")
        body.write_bytes(frame(messages) if protocol.is_grpc else messages[0])
        command = [h2load(), f"-D{round(seconds * 1000)}ms", f"-d{body}", f"--log-file={log}"]
        command += [f"-Hcontent-type: {protocol.content_type}"]
        command += [f"-H{key}: {value}" for key, value in protocol.metadata]
        if protocol.is_grpc:
            command += [f"-c{shape.connections}", f"-m{shape.streams}", "-Hte: trailers"]
        else:
            command += [f"-c{shape.in_flight}", "--h1"]
        output = _run([*command, f"http://{address}{protocol.path}"], seconds + _CLOSING_S)
        rows = np.loadtxt(log, dtype=np.int64, ndmin=2) if log.stat().st_size else np.empty((0, 3), np.int64)
    good = rows[np.isin(rows[:, _STATUS], _GOOD)]
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
