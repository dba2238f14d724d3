"""Runs the real server inside the test process: on a thread, with its own event loop, on a free port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from threading import Thread

from service.server import RunningServer, running_server
from service.settings import Settings

Serving = Callable[..., AbstractContextManager[RunningServer]]
"""`serving`, bound to one of the transports."""


@contextmanager
def serving(**settings: object) -> Iterator[RunningServer]:
    """Serve the shipped model, or what the settings say, until the block is left."""
    started: Future[tuple[RunningServer, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = Thread(target=lambda: asyncio.run(_serve(started, settings)))
    thread.start()
    try:
        server, loop, stop = started.result(timeout=60)
        try:
            yield server
        finally:
            loop.call_soon_threadsafe(stop.set)
    finally:
        thread.join()


async def _serve(
    started: Future[tuple[RunningServer, asyncio.AbstractEventLoop, asyncio.Event]],
    settings: dict[str, object],
) -> None:
    stop = asyncio.Event()
    try:
        chosen = {
            "grpc_address": "127.0.0.1:0",
            "device": "cpu",
            "instances": 1,  # tests count on what runs at once, whatever the machine
            "grace_s": 5.0,
            "metrics_address": "",
        } | settings
        async with running_server(Settings.model_validate(chosen)) as server:
            started.set_result((server, asyncio.get_running_loop(), stop))
            await stop.wait()
    except BaseException as error:
        if started.done():
            raise
        started.set_exception(error)
