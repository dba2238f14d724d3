"""Puts the parts together: models, scheduler, methods, transport, health; starts, drains and stops them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
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
from service.api.oip.methods import SERVICE as INFERENCE
from service.api.oip.methods import InferenceService
from service.control import Control
from service.cpus import available_cpus
from service.following import following
from service.from_settings import load_repository, request_limits, response_cache, transport_limits
from service.health import Health
from service.listening import listening
from service.measurements import answer_for
from service.metrics_port import metrics_served
from service.peers import Alone, Peers
from service.reflection import add_reflection
from service.repository import Repository
from service.scheduler import Scheduler
from service.security import guard_of
from service.settings import Settings
from service.tracing import tracing
from service.transport.grpcio import GrpcioTransport
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
    started = await asyncio.to_thread(
        lambda: load_repository(settings, cpus, known_to(peers), peers.suspects)
    )
    repository = started.repository
    # What is here now stays. To look through all of it for garbage again and again would cost calls their
    # latency: tens of milliseconds at a time.
    gc.freeze()
    scheduler = Scheduler(settings.instances, cpus, response_cache(settings))
    live = following(started, settings, scheduler.retire, peers)
    with (
        ThreadPoolExecutor(cpus, thread_name_prefix="worker") as workers,
        tracing(settings.trace_endpoint, settings.trace_sample_ratio) as tracers,
        live as followed,
    ):
        draining = Event()
        control = followed if settings.model_control else None
        dispatcher = _dispatcher(settings, repository, scheduler, workers, draining, peers, control, tracers)
        shared = peers.count > 1
        limits = transport_limits(settings)
        health = Health(_HEALTH_NAMES)
        services = [health.add_to, *([add_reflection] if settings.reflection else [])]
        transport = GrpcioTransport(dispatcher, limits, guard, services, reuse_port=shared)
        await asyncio.to_thread(peers.join)
        if followed is not None:
            followed.begin()
        metrics = nullcontext("") if shared else metrics_served(settings, peers)
        with metrics as metrics_address:
            async with listening(settings, limits, dispatcher, transport, guard, shared) as address:
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
    limits = request_limits(settings)
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
