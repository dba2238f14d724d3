"""Runs a model before its first request does, at each size that batches will have."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
import structlog
from structlog.typing import FilteringBoundLogger

from service.device import ending_within, is_out_of_memory, reason_of
from service.errors import ModelLoadError
from service.feeds import blank
from service.graph import TensorSpec
from service.model import RUN_ERRORS, Model
from service.settings import MiB

_log: FilteringBoundLogger = structlog.get_logger()

_MOST_BYTES = 256 * MiB
"""Of a run's tensors together: what a run takes, the session's memory arena never gives back."""
_SLOW_RUN = 1 / 30
"""Of the time for all. After a run that took longer no larger batch is tried: the server's start waits."""


def warm_up(
    model: Model, layers: Sequence[str] = (), *, timeout_s: float | None = None, strict: bool = False
) -> None:
    """Run a model on batches of 1, 2, 4, ... items, up to its largest batch, as far as time and memory allow.

    What the first run of a shape costs (memory, and on a GPU the choice of kernels) no request pays then. The
    inputs are blank, so a run that fails proves nothing against the model and is logged only. A model with
    an axis other than the batch that can be of any size isn't run: no size could be guessed.

    Args:
        model: The model.
        layers: Layers that are to be returned as well as the declared outputs.
        timeout_s: Most that all runs together may take; None: what the model's device needs.
        strict: Whether a lack of memory is an error.

    Raises:
        ModelLoadError: The runs went on until they were stopped, or lacked memory.
    """
    outputs = tuple(dict.fromkeys((*(spec.name for spec in model.outputs), *layers)))
    limit_s = model.trial_timeout_s if timeout_s is None else timeout_s
    with ending_within(limit_s) as options:
        try:
            for size in _batch_sizes(model, outputs):
                started_s = time.perf_counter()
                model.compute({spec.name: blank(spec, size) for spec in model.inputs}, outputs, options)
                if time.perf_counter() - started_s > limit_s * _SLOW_RUN:
                    return
        except RUN_ERRORS as error:
            if strict and is_out_of_memory(error):
                raise ModelLoadError(f"a run lacks memory: {reason_of(error)}") from error
            _log.info("model not warmed up", digest=model.digest, reason=reason_of(error))


def shortest_run_s(model: Model, runs: int = 3) -> float:
    """Time a few runs of one blank item, in seconds; infinite if the model can't be run on such.

    Raises:
        ModelLoadError: The runs went on until they were stopped.
    """
    outputs = [spec.name for spec in model.outputs]
    seconds = [math.inf]
    with ending_within(model.trial_timeout_s) as options, suppress(*RUN_ERRORS):
        for _ in range(runs if next(_batch_sizes(model, outputs), None) else 0):
            started_s = time.perf_counter()
            model.compute({spec.name: blank(spec) for spec in model.inputs}, outputs, options)
            seconds.append(time.perf_counter() - started_s)
    return min(seconds)


def _batch_sizes(model: Model, outputs: Sequence[str]) -> Iterator[int]:
    if not outputs or not all(_tells_its_size(spec) for spec in model.inputs):
        return
    if _input_bytes(model) > _MOST_BYTES:
        return
    yield 1
    if model.batches(outputs) and not model.fixed_batch:
        largest = min(model.batching.max_batch_size, _MOST_BYTES // max(1, _bytes_an_item(model)))
        size = 2
        while size < largest:
            yield size
            size *= 2
        if largest > 1:
            yield largest


def _tells_its_size(spec: TensorSpec) -> bool:
    return spec.shape is not None and None not in spec.shape[1:]


def _shape(spec: TensorSpec, size: int) -> tuple[int, ...]:
    return tuple(size if axis is None else axis for axis in spec.shape or ())


def _input_bytes(model: Model) -> int:
    return sum(
        math.prod(_shape(spec, 1)) * (spec.dtype or np.dtype(object)).itemsize for spec in model.inputs
    )


def _bytes_an_item(model: Model) -> int:
    shapes = {spec.name: _shape(spec, 1) for spec in model.inputs}
    return _input_bytes(model) + model.estimate_bytes(model.graph.layers, shapes)
