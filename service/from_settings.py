"""Makes of the settings what the parts take: how models are loaded and run, and every limit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from service.api.limits import RequestLimits
from service.batching_limits import BatchingLimits
from service.cache import ResponseCache
from service.device import Execution, resolve
from service.images import ImageLimits
from service.loading import LoadOptions
from service.providers import Cuda, Tensorrt
from service.settings import MiB, Settings
from service.start_up import Known, Started, load_models
from service.suspects import Suspects
from service.tap_memory import TapMemory
from service.transport.limits import TransportLimits


def load_repository(
    settings: Settings,
    cpus: int | None = None,
    known: Known | None = None,
    suspects: Suspects | None = None,
) -> Started:
    """Load the models that the settings name, for a process that has this many CPUs to itself; None: all.

    Raises:
        StartupError: nothing can be served, or the wanted device isn't there.
    """
    options = load_options(settings, cpus, suspects)
    return load_models(settings.model_repository or _shipped_models(), options, known)


def load_options(
    settings: Settings, cpus: int | None = None, suspects: Suspects | None = None
) -> LoadOptions:
    """Return how models are loaded; see `load_repository`.

    Raises:
        DeviceUnavailableError: the wanted device isn't there.
    """
    return LoadOptions(
        execution=execution_of(settings, cpus),
        tap_sessions=settings.tap_sessions,
        batching=BatchingLimits(
            settings.max_batch_size, settings.max_queue_size, settings.max_queue_delay_us
        ),
        max_model_bytes=settings.max_model_bytes,
        refuse_non_finite=settings.refuse_non_finite,
        share_threads=not settings.threads,
        run_timeout_s=settings.run_timeout_s,
        suspects=suspects or Suspects(),
        tap_memory=TapMemory(settings.tap_memory_mib * MiB),
    )


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
    return replace(execution, cpu_arena=settings.cpu_arena)


def response_cache(settings: Settings) -> ResponseCache | None:
    """Make the cache of answers, if there is to be one."""
    return ResponseCache(settings.response_cache_mib * MiB) if settings.response_cache_mib else None


def request_limits(settings: Settings) -> RequestLimits:
    """Return how much one request may bring and ask for."""
    return RequestLimits(
        max_images=settings.max_images_per_request,
        max_layers=settings.max_layers_per_request,
        max_response_bytes=settings.max_response_bytes,
        images=ImageLimits(max_pixels=settings.max_image_pixels, max_side=settings.max_image_side),
    )


def transport_limits(settings: Settings) -> TransportLimits:
    """Return what a transport enforces."""
    return TransportLimits(
        max_request_bytes=settings.max_request_bytes,
        max_response_bytes=settings.max_response_bytes,
        default_deadline_s=settings.default_deadline_s,
        max_deadline_s=settings.max_deadline_s,
        max_stream_in_flight=settings.max_stream_in_flight,
        max_unread_bytes=settings.max_unread_bytes,
        max_connections=settings.max_connections,
        max_streams=settings.max_streams,
    )
