"""Puts the parts together: models, scheduler, methods, transport, health; starts, drains and stops them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from structlog.typing import FilteringBoundLogger

from protos.featurelens.v1 import classifier_pb2 as pb
from service.api.access_log import AccessLog
from service.api.classify import ClassifyMethod, stream_error
from service.api.describe import DescribeMethods
from service.api.dispatch import Dispatcher, StreamMethod
from service.api.limits import RequestLimits
from service.api.oip.methods import SERVICE as INFERENCE
from service.api.oip.methods import InferenceService
from service.auth import Guard
from service.batching_limits import BatchingLimits
from service.cpus import available_cpus
from service.device import CudaOptions, Execution, resolve
from service.errors import StartupError
from service.images import ImageLimits
from service.loading import LoadOptions, load_models
from service.peers import Alone, Peers
from service.reflection import add_reflection
from service.repository import Repository
from service.run_watch import RunWatch
from service.scheduler import Scheduler
from service.security import guard_of, tls_files
from service.settings import MiB, Settings
from service.transport.grpcio import GrpcioTransport
from service.transport.limits import TransportLimits
from service.transport.tls import server_credentials

_log: FilteringBoundLogger = structlog.get_logger()

CLASSIFIER = pb.DESCRIPTOR.services_by_name["Classifier"].full_name
_HEALTH_NAMES = ("", CLASSIFIER, INFERENCE)
_SERVING = health_pb2.HealthCheckResponse.SERVING


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers calls."""

    address: str
    """Where, with the port that was really bound."""
    models: tuple[str, ...]
    """Names of the models that are ready."""


@asynccontextmanager
async def running_server(settings: Settings, peers: Peers | None = None) -> AsyncIterator[RunningServer]:
    """Serve until the block is left; then drain, finish what is in flight, and free everything.

    Args:
        settings: How.
        peers: The processes that serve the same address; None if there are no others.

    Raises:
        StartupError: the settings can't be put into practice; says which and why.
    """
    peers = peers or Alone()
    cpus = max(1, available_cpus() // peers.count)
    repository = await asyncio.to_thread(load_repository, settings, cpus)  # signals are heard meanwhile
    scheduler = Scheduler(settings.instances)
    with ThreadPoolExecutor(cpus, thread_name_prefix="worker") as workers:
        draining = Event()
        dispatcher = _dispatcher(settings, repository, scheduler, workers, draining, peers)
        shared = peers.count > 1
        guard = guard_of(settings)
        transport = GrpcioTransport(dispatcher, _transport_limits(settings), guard, reuse_port=shared)
        health_servicer = _add_health(transport.server)
        if settings.reflection:
            add_reflection(transport.server)
        async with _listening(settings, dispatcher, transport, guard, shared) as address:
            for name in _HEALTH_NAMES:
                await health_servicer.set(name, _SERVING)
            try:
                yield RunningServer(address, repository.ready_names())
            finally:
                draining.set()
                await health_servicer.enter_graceful_shutdown()
                _log.info("draining", drain_s=settings.drain_s, grace_s=settings.grace_s)
                await asyncio.sleep(settings.drain_s)
        await asyncio.to_thread(scheduler.close)


@asynccontextmanager
async def _listening(
    settings: Settings, dispatcher: Dispatcher, grpcio: GrpcioTransport, guard: Guard | None, shared: bool
) -> AsyncIterator[str]:
    """Take calls on the address that is yielded; at the end refuse new ones and finish those in flight."""
    files = tls_files(settings)
    try:
        if takes_native(settings.transport, tls=files is not None):
            async with _native_front(settings, dispatcher, grpcio, guard, shared) as address:
                yield address
        else:
            address = grpcio.bind(settings.grpc_address, server_credentials(files) if files else None)
            await grpcio.server.start()
            yield address
    finally:
        await grpcio.stop(settings.grace_s)


@asynccontextmanager
async def _native_front(
    settings: Settings, dispatcher: Dispatcher, grpcio: GrpcioTransport, guard: Guard | None, shared: bool
) -> AsyncIterator[str]:
    """Put the native transport in front of a grpcio server that listens on a Unix socket."""
    from service.transport.native import NativeTransport  # optional

    with TemporaryDirectory(prefix="featurelens-") as folder:
        fallback = f"{folder}/grpcio.sock"
        grpcio.bind(f"unix:{fallback}")
        await grpcio.server.start()
        limits = _transport_limits(settings)
        front = NativeTransport(settings.grpc_address, fallback, dispatcher, limits, guard, reuse_port=shared)
        try:
            yield front.address
        finally:
            drained = asyncio.to_thread(front.drain, settings.grace_s)
            await asyncio.gather(drained, grpcio.stop(settings.grace_s))
            await asyncio.to_thread(front.close)


def takes_native(transport: str, *, tls: bool) -> bool:
    """Tell whether the native transport is to be used.

    Raises:
        StartupError: it is wanted and not installed, or it can't do what is wanted.
    """
    installed = find_spec("pygrpc_native") is not None
    if transport == "native" and not installed:
        raise StartupError("transport native: it is not installed; pip install 'featurelens[server]'")
    if transport == "native" and tls:
        raise StartupError(
            "transport native has no TLS: take transport auto, or leave TLS to a proxy on this machine"
        )
    return installed and not tls and transport != "grpcio"


def load_repository(settings: Settings, cpus: int | None = None) -> Repository:
    """Load the models that the settings name, for a process that has this many CPUs to itself; None: all.

    Raises:
        StartupError: nothing can be served, or the wanted device isn't there.
    """
    options = LoadOptions(
        execution=_execution(settings, cpus),
        tap_sessions=settings.tap_sessions,
        batching=BatchingLimits(
            settings.max_batch_size, settings.max_queue_size, settings.max_queue_delay_us
        ),
        max_model_bytes=settings.max_model_bytes,
        share_threads=not settings.threads,
        watch=RunWatch(settings.run_timeout_s),
    )
    return load_models(settings.model_repository or _shipped_models(), options)


def _shipped_models() -> Path:
    """Find the models that come with featurelens: inside the wheel, or beside the packages in a checkout."""
    package = Path(__file__).parent
    in_wheel = package / "models"
    return in_wheel if in_wheel.is_dir() else package.parent / "models"


def _execution(settings: Settings, cpus: int | None) -> Execution:
    limit = settings.cuda_memory_limit_mib
    cuda = CudaOptions(
        gpu_mem_limit=limit * MiB if limit else None,
        arena_extend_strategy=settings.cuda_arena_strategy,
        cudnn_conv_algo_search=settings.cuda_cudnn_search,
    )
    return resolve(settings.device, cuda, settings.threads or cpus)


def _dispatcher(
    settings: Settings,
    repository: Repository,
    scheduler: Scheduler,
    workers: Executor,
    draining: Event,
    peers: Peers,
) -> Dispatcher:
    limits = _request_limits(settings)
    inference = InferenceService(repository, scheduler, workers, limits, lambda: not draining.is_set(), peers)
    classify = ClassifyMethod(repository, scheduler, workers, limits)
    describe = DescribeMethods(repository, workers, settings.max_response_bytes)
    return Dispatcher(
        unary={
            f"/{CLASSIFIER}/Classify": classify.unary,
            f"/{CLASSIFIER}/ListModels": describe.list_models,
            f"/{CLASSIFIER}/DescribeModel": describe.describe_model,
            **inference.unary,
        },
        streams={
            f"/{CLASSIFIER}/ClassifyStream": StreamMethod(classify.streamed, stream_error),
            **inference.streams,
        },
        max_concurrent_calls=settings.max_concurrent_calls,
        trip=scheduler.trip,
        observe=AccessLog(settings.access_log_rate).write,
    )


def _request_limits(settings: Settings) -> RequestLimits:
    return RequestLimits(
        max_images=settings.max_images_per_request,
        max_layers=settings.max_layers_per_request,
        max_response_bytes=settings.max_response_bytes,
        refuse_non_finite=settings.refuse_non_finite,
        images=ImageLimits(max_pixels=settings.max_image_pixels, max_side=settings.max_image_side),
    )


def _transport_limits(settings: Settings) -> TransportLimits:
    return TransportLimits(
        max_request_bytes=settings.max_request_bytes,
        max_response_bytes=settings.max_response_bytes,
        default_deadline_s=settings.default_deadline_s,
        max_deadline_s=settings.max_deadline_s,
        max_stream_in_flight=settings.max_stream_in_flight,
        max_unread_bytes=settings.max_unread_bytes,
        max_connections=settings.max_connections,
    )


def _add_health(server: grpc.aio.Server) -> health.HealthServicer:
    """Add grpc.health.v1, NOT_SERVING until told otherwise (the servicer's own default for "" is SERVING)."""
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    return servicer
