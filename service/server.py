"""Puts the parts together: models, scheduler, methods, transport, health; starts, drains and stops them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

import structlog
from structlog.typing import FilteringBoundLogger

from protos.featurelens.v1 import classifier_pb2 as pb
from service.api.access_log import AccessLog
from service.api.call import Observe, all_told
from service.api.call_counts import CallCounts
from service.api.classify import ClassifyMethod, stream_error
from service.api.describe import DescribeMethods
from service.api.dispatch import Dispatcher, StreamMethod
from service.api.limits import RequestLimits
from service.api.oip.methods import SERVICE as INFERENCE
from service.api.oip.methods import InferenceService
from service.auth import Guard
from service.batching_limits import BatchingLimits
from service.cache import ResponseCache
from service.control import Control
from service.cpus import available_cpus
from service.device import Execution, resolve
from service.errors import StartupError
from service.following import following
from service.health import add_health
from service.images import ImageLimits
from service.loading import LoadOptions
from service.measurements import answer_for
from service.metrics_port import metrics_served
from service.peers import Alone, Peers
from service.providers import Cuda, Tensorrt
from service.reflection import add_reflection
from service.repository import Repository
from service.scheduler import Scheduler
from service.security import guard_of, tls_files
from service.settings import MiB, Settings
from service.start_up import Known, Started, load_models
from service.tracing import tracing
from service.transport.grpcio import GrpcioTransport
from service.transport.limits import TransportLimits
from service.transport.tls import server_credentials
from service.unison import known_to

_log: FilteringBoundLogger = structlog.get_logger()

CLASSIFIER = pb.DESCRIPTOR.services_by_name["Classifier"].full_name
_HEALTH_NAMES = ("", CLASSIFIER, INFERENCE)


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that answers calls."""

    address: str
    """Where, with the port that was really bound."""
    models: tuple[str, ...]
    """Names of the models that are ready."""
    metrics_address: str
    """Where the metrics are; "" if they aren't served here."""


@asynccontextmanager
async def running_server(settings: Settings, peers: Peers | None = None) -> AsyncIterator[RunningServer]:
    """Serve until the block is left; then drain, finish what is in flight, and free everything.

    Args:
        settings: How.
        peers: The processes that serve the same address; None if there are no others.

    Raises:
        StartupError: the settings can't be put into practice; says which and why.
    """
    guard = guard_of(settings)
    peers = peers or Alone()
    cpus = max(1, available_cpus() // peers.count)
    # Signals are heard meanwhile.
    started = await asyncio.to_thread(lambda: load_repository(settings, cpus, known_to(peers)))
    repository = started.repository
    # What is here now stays. To look through all of it for garbage again and again would cost calls their
    # latency: tens of milliseconds at a time.
    gc.freeze()
    scheduler = Scheduler(settings.instances, cpus, _response_cache(settings))
    live = following(started, settings, scheduler.retire, peers)
    with (
        ThreadPoolExecutor(cpus, thread_name_prefix="worker") as workers,
        tracing(settings.trace_endpoint, settings.trace_sample_ratio) as tracers,
        live as control,
    ):
        draining = Event()
        dispatcher = _dispatcher(settings, repository, scheduler, workers, draining, peers, control, tracers)
        shared = peers.count > 1
        transport = GrpcioTransport(dispatcher, _transport_limits(settings), guard, reuse_port=shared)
        health = add_health(transport.server, _HEALTH_NAMES)
        if settings.reflection:
            add_reflection(transport.server)
        await asyncio.to_thread(peers.join)
        metrics = nullcontext("") if shared else metrics_served(settings, peers)
        with metrics as metrics_address:
            async with _listening(settings, dispatcher, transport, guard, shared) as address:
                for name in _HEALTH_NAMES:
                    health.set_serving(name)
                try:
                    yield RunningServer(address, repository.ready_names(), metrics_address)
                finally:
                    draining.set()
                    health.drain()
                    _log.info("draining", drain_s=settings.drain_s, grace_s=settings.grace_s)
                    await asyncio.sleep(settings.drain_s)
                    health.close()
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


def load_repository(settings: Settings, cpus: int | None = None, known: Known | None = None) -> Started:
    """Load the models that the settings name, for a process that has this many CPUs to itself; None: all.

    Raises:
        StartupError: nothing can be served, or the wanted device isn't there.
    """
    options = LoadOptions(
        execution=execution_of(settings, cpus),
        tap_sessions=settings.tap_sessions,
        batching=BatchingLimits(
            settings.max_batch_size, settings.max_queue_size, settings.max_queue_delay_us
        ),
        max_model_bytes=settings.max_model_bytes,
        refuse_non_finite=settings.refuse_non_finite,
        share_threads=not settings.threads,
    )
    return load_models(settings.model_repository or _shipped_models(), options, known)


def _shipped_models() -> Path:
    """Find the models that come with featurelens: inside the wheel, or beside the packages in a checkout."""
    package = Path(__file__).parent
    in_wheel = package / "models"
    return in_wheel if in_wheel.is_dir() else package.parent / "models"


def execution_of(settings: Settings, cpus: int | None = None) -> Execution:
    """Choose how models run, in a process that has this many CPUs to itself; None: all.

    Raises:
        DeviceUnavailableError: the wanted device isn't there.
    """
    limit = settings.cuda_memory_limit_mib
    cuda = Cuda(
        gpu_mem_limit=limit * MiB if limit else None,
        arena_extend_strategy=settings.cuda_arena_strategy,
        cudnn_conv_algo_search=settings.cuda_cudnn_search,
    )
    tensorrt = Tensorrt(fp16=settings.tensorrt_fp16, engine_cache=settings.tensorrt_cache)
    execution = resolve(settings.device, cuda, tensorrt, settings.threads or cpus)
    builds_engines = tensorrt in execution.providers  # in a run, if a shape is new
    run_timeout_s = max(settings.run_timeout_s, execution.trial_timeout_s if builds_engines else 0)
    return replace(execution, cpu_arena=settings.cpu_arena, run_timeout_s=run_timeout_s)


def _response_cache(settings: Settings) -> ResponseCache | None:
    return ResponseCache(settings.response_cache_mib * MiB) if settings.response_cache_mib else None


def _dispatcher(
    settings: Settings,
    repository: Repository,
    scheduler: Scheduler,
    workers: Executor,
    draining: Event,
    peers: Peers,
    control: Control | None,
    observers: Sequence[Observe] = (),
) -> Dispatcher:
    limits = _request_limits(settings)
    inference = InferenceService(
        repository, scheduler, workers, limits, lambda: not draining.is_set(), peers, control
    )
    classify = ClassifyMethod(repository, scheduler, workers, limits)
    describe = DescribeMethods(repository, workers, settings.max_response_bytes)
    unary = {
        f"/{CLASSIFIER}/Classify": classify.unary,
        f"/{CLASSIFIER}/ListModels": describe.list_models,
        f"/{CLASSIFIER}/DescribeModel": describe.describe_model,
        **inference.unary,
    }
    streams = {
        f"/{CLASSIFIER}/ClassifyStream": StreamMethod(classify.streamed, stream_error),
        **inference.streams,
    }
    log = AccessLog(settings.access_log_rate).write
    calls = CallCounts(unary, streams, log)
    observe = all_told(*observers, calls.ended if settings.metrics_address else log)
    dispatcher = Dispatcher(
        unary, streams, settings.max_concurrent_calls, scheduler.trip, observe, calls.stream
    )
    answer_for(peers, calls, dispatcher, repository, scheduler)
    return dispatcher


def _request_limits(settings: Settings) -> RequestLimits:
    return RequestLimits(
        max_images=settings.max_images_per_request,
        max_layers=settings.max_layers_per_request,
        max_response_bytes=settings.max_response_bytes,
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
