"""One of several processes that serve a port: `python -m service.worker DESCRIPTOR RECORD NUMBER FLAGS...`.

The descriptor is that of a socket to the supervisor, the record that of where runs are noted; the number is
the worker's own, the flags are the server's.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import closing

from service.errors import StartupError
from service.logs import configure_logs
from service.port import closed_first
from service.settings import Settings, parse_settings
from service.supervised import ALIVE, Supervised

_FAILED = 1


def main(arguments: Sequence[str]) -> int:
    """Serve until the supervisor says stop or is gone; return 1 if that can't start."""
    # A terminal sends it to all processes; the supervisor passes on what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    descriptor, record, number, *flags = arguments
    settings = parse_settings(flags)
    configure_logs(settings.log_format, settings.log_level, worker=int(number))
    end = socket.socket(fileno=int(descriptor))
    with closing(Supervised(end, int(record), int(number), int(settings.workers))) as peers:
        try:
            asyncio.run(_serve(settings, peers))
        except StartupError as error:
            peers.failed(str(error))
            return _FAILED
    return 0


async def _serve(settings: Settings, peers: Supervised) -> None:
    # Imported late, as it takes long, and a signal that comes before it is handled ends the process.
    from service.server import running_server

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, peers.stop.set)
    peers.answer(ALIVE, lambda _: asyncio.run_coroutine_threadsafe(_take_turn(), loop).result())
    async with running_server(settings, peers) as server:
        with closed_first():
            peers.serving(server.models)
            await asyncio.to_thread(peers.stop.wait)


async def _take_turn() -> None:
    """Tell by its end that the event loop has its turns."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
