"""Checks of what the machine, or the container, gives the server: CPUs, memory, files, threads, the time."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

from service.cgroups import memory_limit, process_limit, read
from service.checks.finding import Finding, bad, good, notice
from service.cpus import available_cpus
from service.settings import MiB, Settings

_TIGHT = 0.8
"""From which part of the memory on it is worth knowing."""
_FEW_FILES, _ENOUGH_FILES = 256, 4096
_THREADS_OF_A_WORKER = 128


def workers_of(settings: Settings, cpus: int) -> int:
    """Return how many processes will serve."""
    return cpus if settings.workers == "auto" else settings.workers


def cpus(settings: Settings, available: int | None = None, installed: int | None = None) -> Finding:
    """Check that the CPUs are enough for the threads that the settings ask for.

    Args:
        settings: What is wanted.
        available: CPUs that this process may use; None: ask.
        installed: CPUs of the machine; None: ask.
    """
    here = available or available_cpus()
    found = f"{here} of {installed or os.cpu_count()}, by affinity and cgroup quota"
    if settings.threads > here:
        return notice("CPUs", f"{found}; threads is {settings.threads}", "let threads be 0: as many as CPUs")
    if workers_of(settings, here) > here:
        return notice("CPUs", f"{found}; workers is {settings.workers}", "take workers auto: one a CPU")
    return good("CPUs", found)


def memory(settings: Settings, worker_bytes: int, limit_bytes: int | None, cpus: int) -> Finding:
    """Check that the memory is enough.

    Args:
        settings: What is wanted.
        worker_bytes: What one process takes with its models.
        limit_bytes: What all may take together; None: not known.
        cpus: CPUs that this process may use.
    """
    workers = workers_of(settings, cpus)
    need = workers * (worker_bytes + settings.response_cache_mib * MiB)
    found = f"about {_mib(need)} for {workers} worker{'s' * (workers > 1)}, before any call"
    if limit_bytes is None:
        return good("memory", f"{found}; no limit is known")
    found = f"{found}, of {_mib(limit_bytes)}"
    if need > limit_bytes:
        return bad("memory", found, "serve fewer models, take fewer workers, or allow more memory")
    if need > _TIGHT * limit_bytes:
        return notice("memory", found, "allow more memory: calls need some too")
    return good("memory", found)


def taken_bytes() -> int:
    """Return the most memory that this process has taken so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def memory_bytes(root: Path = Path("/")) -> int | None:
    """Return the limit of the container, else what the machine has."""
    if limit := memory_limit(root):
        return limit
    total = [
        line.split() for line in read(root / "proc/meminfo").splitlines() if line.startswith("MemTotal:")
    ]
    return int(total[0][1]) * 1024 if total else None


def open_files(soft: int | None = None) -> Finding:
    """Check how many files and connections a process may have open; None: ask."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if soft is None else soft
    if most == resource.RLIM_INFINITY:
        return good("open files", "no limit")
    advice = f"raise it to {_ENOUGH_FILES}: ulimit -n, LimitNOFILE of systemd, --ulimit nofile of Docker"
    if most < _FEW_FILES:
        return bad("open files", f"at most {most}, one for each connection", advice)
    if most < _ENOUGH_FILES:
        return notice("open files", f"at most {most}, one for each connection", advice)
    return good("open files", f"at most {most}")


def threads(settings: Settings, cpus: int, left: int | None = None, root: Path = Path("/")) -> Finding:
    """Check how many more threads the container, or the user, may have; `left` None: ask."""
    free = process_limit(root) if left is None else left
    if free is None:
        return good("threads", "no limit of the container")
    need = _THREADS_OF_A_WORKER * workers_of(settings, cpus)
    if free < need:
        advice = "raise the limit: TasksMax of systemd, --pids-limit of Docker"
        return notice("threads", f"{free} more are allowed, {need} may be needed", advice)
    return good("threads", f"{free} more are allowed")


def clock(now_s: float | None = None) -> Finding:
    """Check that it isn't earlier than when this file was installed; None: ask."""
    now = time.time() if now_s is None else now_s
    found = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < Path(__file__).stat().st_mtime - 24 * 3600:
        return bad("clock", f"{found}, which is in the past", "set it: certificates and traces need it")
    return good("clock", found)


def _mib(size: float) -> str:
    return f"{size / MiB:,.0f} MiB"
