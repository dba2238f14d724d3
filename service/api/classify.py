"""Classify and ClassifyStream: from an encoded request to a job, and from its result to an encoded answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from google.protobuf.message import DecodeError

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.tensors import pack, unpack
from service.api.call import Call
from service.api.dispatch import failing
from service.api.limits import RequestLimits
from service.api.per_image import PerImage, must_run_alone, per_image
from service.api.pictures import prepare_all
from service.api.scores import encode_scores
from service.api.status import status_of
from service.api.tally import Tally
from service.api.wire import text
from service.classifier import Classifier
from service.errors import InvalidRequestError, NonFiniteOutputError, ServiceError
from service.feeds import is_finite
from service.job import Job, Result, run_key
from service.model import Model
from service.repository import Repository, ServedModel
from service.scheduler import Scheduler
from service.statistics import Inference

Frame = Callable[[str, bytes], bytes]
"""Makes the answer to a call of a request's id and an encoded ClassifyResponse."""

_STREAM_ID = pb.ClassifyStreamResponse.ID_FIELD_NUMBER
_STREAM_RESPONSE = pb.ClassifyStreamResponse.RESPONSE_FIELD_NUMBER


@dataclass(frozen=True, slots=True)
class _Plan:
    """A request, checked against the model it is for."""

    call: Call
    tally: Tally
    served: ServedModel
    classifier: Classifier
    layers: tuple[str, ...]
    resolved: Mapping[str, Sequence[str]]
    top_k: int
    preprocess: bool
    return_input: bool
    frame: Frame
    item: str
    """What an item is called, with {} for its number."""
    no_ink: tuple[int, ...] = ()
    """Images in which no ink was found."""


class ClassifyMethod:
    """Answers classification requests; encoded images are decoded on `workers`, not on its own thread."""

    def __init__(
        self, repository: Repository, scheduler: Scheduler, workers: Executor, limits: RequestLimits
    ) -> None:
        self._repository = repository
        self._scheduler = scheduler
        self._workers = workers
        self._limits = limits

    def unary(self, request: bytes, call: Call) -> None:
        """Answer with an encoded ClassifyResponse."""
        self._begin(request, call, _alone)

    def streamed(self, request: bytes, call: Call) -> None:
        """Answer with an encoded ClassifyStreamResponse."""
        self._begin(request, call, _in_stream)

    def _begin(self, data: bytes, call: Call, frame: Frame) -> None:
        started_ns = time.perf_counter_ns()
        request = _parse(data)
        call.identify(request.id)
        plan = self._plan(request, call, frame)
        if request.WhichOneof("input") == "images":
            self._limits.check_count(len(request.images.images), "images")
            self._workers.submit(self._decode, plan, list(request.images.images))
        elif request.WhichOneof("input") == "tensor":
            feed = _feed(request.tensor, plan.classifier)
            self._submit(plan, feed, time.perf_counter_ns() - started_ns)
        else:
            raise InvalidRequestError("the request holds neither images nor a tensor; send one of them")

    def _plan(self, request: pb.ClassifyRequest, call: Call, frame: Frame) -> _Plan:
        served = self._repository.get(request.model, request.version)
        tally = call.tally = Tally(served)
        self._limits.check_layers(len(request.layers))
        layers, resolved = _sendable(served.model, request.layers)
        self._limits.check_layers(len(layers))
        return _Plan(
            call=call,
            tally=tally,
            served=served,
            classifier=served.classifier(),
            layers=layers,
            resolved=resolved,
            top_k=request.top_k,
            preprocess=request.preprocessing != pb.PREPROCESSING_NONE,
            return_input=request.return_input,
            frame=frame,
            item="images[{}]" if request.WhichOneof("input") == "images" else "item {} of the tensor",
        )

    def _decode(self, plan: _Plan, images: Sequence[bytes]) -> None:
        """Make a feed of image files and submit it; runs on a worker, so it ends the call itself."""
        with failing(plan.call):
            if (reason := plan.call.abandoned()) is not None:
                raise reason
            started_ns = time.perf_counter_ns()
            preprocessing = plan.classifier.preprocessing
            made = prepare_all(images, preprocessing, self._limits.images, enabled=plan.preprocess)
            plan = replace(plan, no_ink=made.no_ink)
            self._submit(plan, made.feed, time.perf_counter_ns() - started_ns)

    def _submit(self, plan: _Plan, feed: np.ndarray, decode_ns: int) -> None:
        model = plan.served.model
        feeds = plan.classifier.feeds(feed, model.inputs)
        outputs = tuple(dict.fromkeys((plan.classifier.output, *plan.layers)))
        images = len(feed) if feed.ndim else 0  # which the check of the inputs refuses
        alone = must_run_alone(model, plan.classifier.output, plan.layers, images)
        # One by one, a fixed batch of one takes any number too.
        model.check_inputs(feeds, finite=plan.served.finite, any_number=alone or model.batches(outputs))
        self._limits.check_count(len(feed), "items along axis 0 of the tensor")
        self._check_response_size(plan, feed, alone=alone)
        plan.tally.layers = len(plan.layers)
        done = partial(self._finish, plan, feed, decode_ns)
        key = run_key(model, feeds, outputs, len(feed))
        job = Job(model, feeds, outputs, len(feed), done, plan.call.abandoned, run_key=key, each_alone=alone)
        plan.tally.queued_ns = job.queued_ns
        self._scheduler.submit(job)

    def _finish(self, plan: _Plan, feed: np.ndarray, decode_ns: int, outcome: Result | ServiceError) -> None:
        """Encode what the run gave; runs on the scheduler's thread, so it ends the call itself."""
        with failing(plan.call):
            if isinstance(outcome, ServiceError):
                raise outcome
            started_ns = time.perf_counter_ns()
            if plan.layers:
                runs = outcome.items or (outcome.outputs,)
                self._limits.check_outputs([run[layer] for run in runs for layer in plan.layers])
            following = plan.served.model.rows.following
            told = per_image(outcome, len(feed), plan.classifier.output, plan.layers, following)
            probabilities = plan.classifier.probabilities(told.rows)
            if not is_finite(probabilities):
                self._workers.submit(_refuse, plan, feed, probabilities)
                return
            response = _encoded(plan, feed, decode_ns, outcome, told, probabilities)
            answer = plan.frame(plan.call.request_id, response)
            self._limits.check_answer(len(answer))
            plan.tally.inference = Inference(
                samples=len(feed),
                executions=outcome.executions,
                input_ns=decode_ns,
                queue_ns=outcome.queue_ns,
                infer_ns=outcome.compute_ns,
                output_ns=time.perf_counter_ns() - started_ns,
                cached=outcome.cached,
                cache_ns=outcome.cache_ns,
            )
            plan.tally.run_batch_size = outcome.run_batch_size
            plan.call.succeed(answer)

    def _check_response_size(self, plan: _Plan, feed: np.ndarray, *, alone: bool) -> None:
        runs, items = (len(feed), 1) if alone else (1, len(feed))
        shapes = {plan.classifier.input.name: (items, *feed.shape[1:])}
        estimate = runs * plan.served.model.estimate_bytes(plan.layers, shapes) if plan.layers else 0
        self._limits.check_estimate(estimate + (feed.nbytes if plan.return_input else 0))


def stream_error(request_id: str, error: ServiceError) -> bytes:
    """Encode a failed message of a stream."""
    code, _ = status_of(error).value
    answer = pb.ClassifyStreamResponse(id=request_id, error=pb.StreamError(code=code, message=str(error)))
    return answer.SerializeToString()


def _alone(_request_id: str, response: bytes) -> bytes:
    return response


def _in_stream(request_id: str, response: bytes) -> bytes:
    return b"".join((*text(_STREAM_ID, request_id.encode()), *text(_STREAM_RESPONSE, response)))


def _parse(data: bytes) -> pb.ClassifyRequest:
    try:
        return pb.ClassifyRequest.FromString(data)
    except DecodeError as error:
        raise InvalidRequestError("the request is not an encoded ClassifyRequest") from error


def _sendable(model: Model, names: Sequence[str]) -> tuple[tuple[str, ...], Mapping[str, Sequence[str]]]:
    """Resolve layer names; strings, which a Tensor can't hold, are left out of patterns and refused by name.

    Returns the layers, and those that each name stands for which is no layer's.
    """
    if not names:  # as most requests have it
        return (), {}
    resolution = model.names.resolve(names)
    strings = {name for name in resolution.layers if model.graph.layers[name].spec.dtype == np.object_}
    if not strings:
        return resolution.layers, resolution.meant
    if asked := strings.intersection(names):
        raise InvalidRequestError(f'layer "{min(asked)}" holds strings, which can\'t be returned here')

    def sendable(layers: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in layers if name not in strings)

    return sendable(resolution.layers), {asked: sendable(found) for asked, found in resolution.meant.items()}


def _feed(tensor: pb.Tensor, classifier: Classifier) -> np.ndarray:
    try:
        feed = unpack(tensor)
    except ValueError as error:
        raise InvalidRequestError(f"the tensor can't be read: {error}") from error
    if tensor.name not in ("", classifier.input.name):
        raise InvalidRequestError(
            f'the tensor is called "{tensor.name[:100]}", the model\'s input "{classifier.input.name}"'
        )
    return feed


def _refuse(plan: _Plan, feed: np.ndarray, probabilities: np.ndarray) -> None:
    """End a call whose answer isn't finite and say where that begins, which takes a run; so on a worker."""
    with failing(plan.call):
        if (reason := plan.call.abandoned()) is not None:
            raise reason
        model, classifier = plan.served.model, plan.classifier
        wrong = np.flatnonzero(~np.isfinite(probabilities).all(axis=1)).tolist()
        items = plan.item.format(wrong[0]) + (f" and {len(wrong) - 1} more" if len(wrong) > 1 else "")
        if not is_finite(feed[wrong[0]]):
            raise InvalidRequestError(
                f"{items} has NaN or infinity, and so has the answer; send finite numbers"
            )
        alone = classifier.feeds(_one(feed, wrong[0], classifier), model.inputs)
        where = plan.served.origins.explain(model, alone, classifier.output)
        raise NonFiniteOutputError(
            f'the model answers with NaN or infinity in "{classifier.output}" for {items}, '
            f"of which no probabilities can be made; {where}"
        )


def _one(feed: np.ndarray, at: int, classifier: Classifier) -> np.ndarray:
    """Take one item, as often as the model's batch has places if it is fixed."""
    places = (classifier.input.shape or (None,))[0] or 1
    return np.repeat(feed[at : at + 1], places, axis=0)


def _encoded(
    plan: _Plan, feed: np.ndarray, decode_ns: int, result: Result, told: PerImage, probabilities: np.ndarray
) -> bytes:
    response = pb.ClassifyResponse(
        id=plan.call.request_id,
        model=plan.served.name,
        version=plan.served.version,
        digest=plan.served.model.digest,
        feature_maps=[pack(told.rows[layer], layer) for layer in plan.layers if layer not in told.alone],
        layers_alone=[
            pb.LayerAlone(name=layer, tensors=[pack(tensor, layer) for tensor in tensors])
            for layer, tensors in told.alone.items()
        ],
        resolved=[pb.ResolvedLayer(asked=asked, names=names) for asked, names in plan.resolved.items()],
        timings=pb.Timings(
            decode_ns=decode_ns,
            queue_ns=result.queue_ns,
            compute_ns=result.compute_ns,
            run_batch_size=result.run_batch_size,
        ),
    )
    if plan.return_input:
        response.input.CopyFrom(pack(feed, plan.classifier.input.name))
    # A message's encoded fields may come in any order.
    scores = encode_scores(probabilities, plan.classifier.labels, plan.top_k, plan.no_ink)
    return response.SerializeToString() + scores
