"""Runs the server: reads flags and environment, serves until a signal comes, drains, exits."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from threading import Timer

import structlog
from pydantic import ValidationError
from structlog.typing import FilteringBoundLogger

from service.cpus import available_cpus
from service.errors import StartupError
from service.logs import configure_logs
from service.metrics_port import metrics_served
from service.port import held
from service.settings import Settings, parse_settings
from service.supervisor import Supervisor

_log: FilteringBoundLogger = structlog.get_logger()

_FAILED = 1
_USAGE = 2
_MOST_NAMES = 10
_END_S = 10.0
"""What the end may take besides the drain and the grace."""
_KILLED_BY = 128  # a shell's convention: 128 + the number of the signal


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return 0, 1 if the server can't start, 2 for wrong settings."""
    flags = sys.argv[1:] if argv is None else argv
    try:
        settings = parse_settings(flags)
    except ValidationError as error:
        for problem in error.errors():
            _complain(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}")
        return _USAGE
    except StartupError as error:
        _complain(str(error))
        return _USAGE
    configure_logs(settings.log_format, settings.log_level)
    workers = available_cpus() if settings.workers == "auto" else settings.workers
    try:
        if workers > 1:
            _supervise(settings, workers, flags)
        else:
            asyncio.run(_serve(settings))
    except StartupError as error:
        _complain(str(error))
        return _FAILED
    return 0


def _supervise(settings: Settings, workers: int, flags: Sequence[str]) -> None:
    with held(settings.grpc_address) as bound:
        flags = [*flags, f"--grpc-address={bound}", f"--workers={workers}"]
        end_s = settings.drain_s + settings.grace_s + _END_S
        supervisor = Supervisor(
            workers, flags, settings.crashes_until_quarantine, settings.worker_timeout_s, end_s
        )
        with metrics_served(settings, supervisor):
            second = supervisor.run(lambda models: _announce(models, bound))
    if second is not None:
        os._exit(_KILLED_BY + second)


async def _serve(settings: Settings) -> None:
    from service.server import running_server  # large: a supervisor does without

    stop = asyncio.Event()
    _on_signals(stop)
    async with running_server(settings) as server:
        _announce(server.models, server.address)
        await stop.wait()
        _end_by(settings.drain_s + settings.grace_s + _END_S)


def _end_by(seconds: float) -> None:
    """End the process after so long, if it hasn't ended by then."""

    def end() -> None:
        _log.error("the server did not end in time; ending it", seconds=seconds)
        os._exit(_FAILED)

    timer = Timer(seconds, end)
    timer.daemon = True
    timer.start()


def _announce(models: Sequence[str], address: str) -> None:
    """Print the one line on standard output that scripts wait for."""
    sys.stdout.write(f"featurelens is serving {_listed(models)} on {address}\n")
    sys.stdout.flush()


def _on_signals(stop: asyncio.Event) -> None:
    """Let the first signal drain the server and the second end it at once."""
    loop = asyncio.get_running_loop()

    def handle(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(_KILLED_BY + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, handle, number)


def _listed(models: Sequence[str]) -> str:
    shown = ", ".join(models[:_MOST_NAMES])
    return shown if len(models) <= _MOST_NAMES else f"{shown} and {len(models) - _MOST_NAMES} more"


def _complain(message: str) -> None:
    sys.stderr.write(f"featurelens serve: {message}\n")


if __name__ == "__main__":
    sys.exit(main())
