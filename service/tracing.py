"""Switches traces on, if the settings name a collector."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.api.call import Observe
from service.errors import StartupError


@contextmanager
def tracing(endpoint: str, sample_ratio: float) -> Iterator[list[Observe]]:
    """Yield what traces calls, if there is an endpoint; send at the end what hasn't been sent yet.

    Raises:
        StartupError: OpenTelemetry is not installed.
    """
    if not endpoint:
        yield []
        return
    try:
        from service.api.tracing.tracer import Tracer  # optional
    except ModuleNotFoundError as error:
        raise StartupError(
            f"trace_endpoint: {error.name} is not installed; pip install 'featurelens[otel]'"
        ) from error
    tracer = Tracer(endpoint, sample_ratio)
    try:
        yield [tracer.observe]
    finally:
        tracer.close()
