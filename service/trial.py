"""Loads a version in a process of its own first: what crashes, hangs or eats memory there, harms nobody.

`python -m service.trial` is that process: it takes a job on standard input and tells on standard output why
the version can't be served; nothing, if it can.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import structlog
from pydantic import ConfigDict, TypeAdapter
from structlog.typing import FilteringBoundLogger

from service.device import is_out_of_memory
from service.loading import UNEXPECTED, LoadOptions, Version, load_version, reason_to_refuse
from service.logs import configure_logs
from service.model_data import FilesChangedError, ModelReading, Stamps
from service.model_files import ModelFiles
from service.settings import MiB

_log: FilteringBoundLogger = structlog.get_logger()

_TIMES_THE_FILE = 8
"""What loading takes in memory, as a multiple of the file, generously."""
_MOST_REASON = 2000
_NICENESS = 5
_CHANGED = os.EX_TEMPFAIL
"""Status of the process if the files aren't as expected."""
_CANCELLED = "the server is shutting down"


@dataclass(frozen=True, slots=True)
class TrialLimits:
    """What a trial may take."""

    seconds: float
    """0: no version is tried."""
    memory_mib: int
    """Besides what its file's size asks for."""


@dataclass(frozen=True, slots=True)
class _Job:
    """What the process is told, as JSON on the first line; the model file's bytes follow."""

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)  # of options, those that stay here

    version: Version
    options: LoadOptions
    limits: TrialLimits
    repository: Path
    """Where the model file is; others with its weights are beside it."""
    expected: Stamps | None
    file_bytes: int
    """How large all these are."""


_JOB: TypeAdapter[_Job] = TypeAdapter(_Job)


class Trial:
    """Tries versions, one at a time."""

    def __init__(self, limits: TrialLimits) -> None:
        self._limits = limits
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._cancelled = False

    def refuse(self, reading: ModelReading, version: Version, options: LoadOptions) -> str:
        """Tell why a version can't be served; "" if it can.

        Raises:
            FilesChangedError: its files aren't as expected.
        """
        if not self._limits.seconds:
            return ""
        if (process := self._start()) is None:
            return _CANCELLED
        about = (reading.files.root, reading.expected, reading.bytes_seen)
        job = _JOB.dump_json(_Job(version, options, self._limits, *about), exclude_unset=True)
        try:
            out, err = process.communicate(job + b"\n" + reading.data, timeout=self._limits.seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return f"its trial was ended after {self._limits.seconds:g} s"
        if process.returncode == 0 or self._cancelled:
            return _CANCELLED if self._cancelled else ""
        if process.returncode == _CHANGED:
            raise FilesChangedError(out.decode())
        if output := err[-_MOST_REASON:].decode(errors="replace"):
            _log.warning("trial failed", model=version.name, version=str(version.number), output=output)
        return out[:_MOST_REASON].decode(errors="replace") or _ended(process.returncode, self._limits)

    def cancel(self) -> None:
        """End a trial that is going on; no other begins."""
        with self._lock:
            self._cancelled = True
            if self._process is not None:
                self._process.kill()

    def _start(self) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._cancelled:
                return None
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", __name__],
                cwd=Path(__file__).parent.parent,  # where -m finds it, installed or not
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for the server
            )
            return self._process


def _ended(status: int, limits: TrialLimits) -> str:
    if status > 0:
        return UNEXPECTED
    if -status == signal.SIGXCPU:
        return f"its trial took more than {limits.seconds:g} s of every CPU"
    return f"its trial crashed with {signal.Signals(-status).name}"


def _limit(limits: TrialLimits, file_bytes: int) -> None:
    """Limit this process; what it holds already is not counted."""
    held = int(Path("/proc/self/statm").read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    most = held + limits.memory_mib * MiB + _TIMES_THE_FILE * file_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    # Should the server die, nobody else ends a trial that hangs.
    seconds = 1 + int(limits.seconds) * (os.cpu_count() or 1)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(_NICENESS)


def _refusal(job: _Job, data: bytes) -> str:
    version, most_bytes = job.version, job.options.max_model_bytes
    reading = ModelReading(data, ModelFiles(job.repository), version.file, most_bytes, job.expected)
    try:
        load_version(reading.finish().data, version, job.options, strict=True)
    except FilesChangedError:
        raise
    except Exception as error:  # noqa: BLE001 - the server is told whatever it is
        if is_out_of_memory(error):
            allowed = f"the setting trial_memory_mib, {job.limits.memory_mib}, allows"
            return f"its trial took more memory than {allowed}"
        return reason_to_refuse(error, version)
    return ""


def main() -> int:
    """Load the version that standard input holds; tell why it can't be served."""
    configure_logs("auto", "warning")  # standard output is for the reason alone
    line = sys.stdin.buffer.readline()
    data = sys.stdin.buffer.read()
    job = _JOB.validate_json(line)
    _limit(job.limits, job.file_bytes)
    try:
        reason = _refusal(job, data)
    except FilesChangedError as error:
        sys.stdout.write(str(error))
        return _CHANGED
    sys.stdout.write(reason)
    return int(bool(reason))


if __name__ == "__main__":
    sys.exit(main())
