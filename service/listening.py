"""Takes calls on an address, over the transport that the settings choose, until told to stop."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import structlog
from structlog.typing import FilteringBoundLogger

from service.api.dispatch import Dispatcher
from service.auth import Guard
from service.errors import StartupError
from service.security import is_loopback, tls_files
from service.settings import Settings
from service.transport.grpcio import GrpcioTransport
from service.transport.limits import TransportLimits
from service.transport.tls import server_credentials

_log: FilteringBoundLogger = structlog.get_logger()

_FOLDER = "featurelens-"
"""Begins the names of folders for Unix sockets; the id of the process follows."""


@asynccontextmanager
async def listening(
    settings: Settings,
    limits: TransportLimits,
    dispatcher: Dispatcher,
    grpcio: GrpcioTransport,
    guard: Guard | None,
    shared: bool,
) -> AsyncIterator[str]:
    """Take calls on the address that is yielded; at the end refuse new ones and finish those in flight."""
    files = tls_files(settings)
    try:
        if takes_native(settings, tls=files is not None):
            async with _native_front(settings, limits, dispatcher, grpcio, guard, shared) as address:
                yield address
        else:
            tls = partial(server_credentials, files) if files else None
            address = grpcio.bind(settings.grpc_address, tls)
            await grpcio.start()
            yield address
    finally:
        await grpcio.stop(settings.grace_s)


@asynccontextmanager
async def _native_front(
    settings: Settings,
    limits: TransportLimits,
    dispatcher: Dispatcher,
    grpcio: GrpcioTransport,
    guard: Guard | None,
    shared: bool,
) -> AsyncIterator[str]:
    """Put the native transport in front of a grpcio server that listens on a Unix socket."""
    from service.transport.native import NativeTransport  # optional

    _remove_left_behind()
    with TemporaryDirectory(prefix=f"{_FOLDER}{os.getpid()}-") as folder:
        fallback = f"{folder}/grpcio.sock"
        grpcio.bind(f"unix:{fallback}")
        await grpcio.start()
        front = NativeTransport(settings.grpc_address, fallback, dispatcher, limits, guard, reuse_port=shared)
        try:
            yield front.address
        finally:
            drained = asyncio.to_thread(front.drain, settings.grace_s)
            await asyncio.gather(drained, grpcio.stop(settings.grace_s))
            await asyncio.to_thread(front.close)


def _remove_left_behind() -> None:
    """Remove the folders of processes that were killed."""
    for folder in Path(gettempdir()).glob(f"{_FOLDER}*-*"):
        process = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if process.isdigit() and not Path("/proc", process).exists() and Path("/proc").exists():
            shutil.rmtree(folder, ignore_errors=True)  # another user's stays


def takes_native(settings: Settings, *, tls: bool) -> bool:
    """Tell whether the native transport is to be used: `auto` takes it where every client is trusted.

    It takes messages of any size, and unpacks them, before anybody can refuse them.

    Raises:
        StartupError: it is wanted and not installed, or it can't do what is wanted.
    """
    transport = settings.transport
    trusted = settings.trusted_clients or is_loopback(settings.grpc_address)
    installed = find_spec("pygrpc_native") is not None
    if transport == "native" and not installed:
        raise StartupError("transport native: it is not installed; pip install 'featurelens[server]'")
    if transport == "native" and tls:
        raise StartupError(
            "transport native has no TLS: take transport auto, or leave TLS to a proxy on this machine"
        )
    if transport == "native" and not trusted:
        _log.warning(
            "the native transport bounds no message; give it trusted clients only, or choose grpcio",
            address=settings.grpc_address,
        )
    return transport == "native" or (transport == "auto" and trusted and installed and not tls)
