"""What a request asks of a model, all but its tensors' bytes and its id: checked once, the same for many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from protos.inference import messages as pb
from service.api.limits import RequestLimits
from service.api.oip import parameters
from service.api.oip.answers import Form
from service.api.oip.interface import Wanted
from service.job import DEFAULT_PRIORITY, RunKey, run_key
from service.model import Model
from service.repository import ServedModel

Feeds = Mapping[str, np.ndarray]


class Urgency(NamedTuple):
    """How urgent a request is."""

    priority: int = DEFAULT_PRIORITY
    timeout_s: float | None = None


class Query(NamedTuple):
    """See above. It doesn't hold the model, so that it can be kept.

    Attributes:
        tensors: that the run has to give, each once.
        samples: how many items it holds, 1 if the model knows no batch.
        layers: how many of the outputs are layers.
    """

    outputs: tuple[Wanted, ...]
    tensors: tuple[str, ...]
    samples: int
    layers: int
    run_key: RunKey | None
    urgency: Urgency
    form: Form


def urgency(request: pb.ModelInferRequest) -> Urgency:
    """Read how urgent a request is.

    Raises:
        InvalidRequestError: a parameter is not what it should be.
        UnimplementedError: it is part of a sequence.
    """
    if not request.parameters:
        return Urgency()
    parameters.check_sequence(request.parameters)
    return Urgency(parameters.priority(request.parameters), parameters.timeout_s(request.parameters))


def query(
    served: ServedModel,
    outputs: tuple[Wanted, ...],
    layers: Sequence[str],
    feeds: Feeds,
    urgency: Urgency,
    limits: RequestLimits,
) -> Query:
    """Check a request against its model and the server's limits.

    Raises:
        InvalidRequestError: the inputs are not what the model takes.
        LimitExceededError: it brings or asks for too much.
    """
    model = served.model
    tensors = tuple(dict.fromkeys([wanted.tensor for wanted in outputs]))
    model.check_inputs(feeds, finite=served.finite, any_number=model.batches(tensors, feeds))
    batch_size = _batch_size(model, tensors, feeds)
    items = batch_size if batch_size is not None else _items_of_a_whole_run(model, feeds)
    if items is not None:
        limits.check_count(items, "items along axis 0 of its inputs")
    if layers:
        limits.check_layers(len(layers))
        shapes = {name: feed.shape for name, feed in feeds.items()}
        limits.check_estimate(model.estimate_bytes(layers, shapes))
    return Query(
        outputs=outputs,
        tensors=tensors,
        samples=batch_size or 1,
        layers=len(layers),
        run_key=run_key(model, feeds, tensors, batch_size or 1),
        urgency=urgency,
        form=Form(served.name, served.version, [wanted.name for wanted in outputs]),
    )


def _items_of_a_whole_run(model: Model, feeds: Feeds) -> int | None:
    """Return how many items a run has that isn't cut; None if the model has no batch, or there are none."""
    if model.rows.size is None:
        return None
    return max((len(feed) for feed in feeds.values()), default=0) or None


def _batch_size(model: Model, outputs: Sequence[str], feeds: Feeds) -> int | None:
    """Return how many items the inputs hold; None if they are no batch for these outputs."""
    sizes = {feed.shape[0] for feed in feeds.values()} if feeds and model.batches(outputs, feeds) else ()
    return next(iter(sizes)) if len(sizes) == 1 else None
