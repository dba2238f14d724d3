"""ModelInfer and ModelStreamInfer: from an encoded request to a job, and from its result to an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple

import numpy as np

from protos.inference import messages as pb
from service.api.call import Call
from service.api.dispatch import failing
from service.api.limits import RequestLimits
from service.api.oip import answers, contents, parameters
from service.api.oip.classification import classify
from service.api.oip.interface import Interface, Interfaces, Wanted, takes_images
from service.api.oip.requests import parse
from service.api.pictures import prepare_all
from service.api.tally import Tally
from service.errors import InvalidRequestError, ServiceError
from service.job import DEFAULT_PRIORITY, Job, Result
from service.model import Model
from service.repository import Repository, ServedModel
from service.scheduler import Scheduler
from service.statistics import Inference

Feeds = Mapping[str, np.ndarray]
Frame = Callable[[bytes], bytes]


class _Plan(NamedTuple):
    """A request, checked against the model it is for."""

    call: Call
    tally: Tally
    served: ServedModel
    interface: Interface
    outputs: tuple[Wanted, ...]
    request_id: str
    priority: int
    frame: Frame


class InferMethod:
    """Runs models; image files are decoded on `workers`, not on the transport's thread."""

    def __init__(
        self, repository: Repository, scheduler: Scheduler, workers: Executor, limits: RequestLimits
    ) -> None:
        self._repository = repository
        self._scheduler = scheduler
        self._workers = workers
        self._limits = limits
        self._interfaces = Interfaces()

    def unary(self, request: bytes, call: Call) -> None:
        """Answer with an encoded ModelInferResponse."""
        self._begin(request, call, bytes)

    def streamed(self, request: bytes, call: Call) -> None:
        """Answer with an encoded ModelStreamInferResponse."""
        self._begin(request, call, answers.in_stream)

    def _begin(self, data: bytes, call: Call, frame: Frame) -> None:
        started_ns = time.perf_counter_ns()
        request = parse(pb.ModelInferRequest, data)
        call.identify(request.id)
        plan = self._plan(request, call, frame)
        if takes_images(plan.interface, request):
            images = contents.elements_of(request.inputs[0], contents.contents_of(request)[0])
            _check_image_shape(request.inputs[0])
            self._limits.check_count(len(images), "images")
            self._workers.submit(self._decode, plan, images)
        else:
            feeds = _feeds(request, plan.interface)
            self._submit(plan, feeds, time.perf_counter_ns() - started_ns)

    def _plan(self, request: pb.ModelInferRequest, call: Call, frame: Frame) -> _Plan:
        served = self._repository.get(request.model_name, request.model_version)
        call.note(model=served.name, version=served.version)
        tally = Tally(call, served.statistics)
        priority = DEFAULT_PRIORITY
        if request.parameters:
            parameters.check_sequence(request.parameters)
            priority = parameters.priority(request.parameters)
            if timeout_s := parameters.timeout_s(request.parameters):
                call.tighten(timeout_s)
        interface = self._interfaces.of(served)
        outputs = interface.wanted(request)
        return _Plan(call, tally, served, interface, outputs, request.id, priority, frame)

    def _decode(self, plan: _Plan, images: Sequence[bytes]) -> None:
        """Make a feed of image files and submit it; runs on a worker, so it ends the call itself."""
        with failing(plan.call):
            if (reason := plan.call.abandoned()) is not None:
                raise reason
            started_ns = time.perf_counter_ns()
            classifier = plan.served.classifier()
            feed = prepare_all(images, classifier.preprocessing, self._limits.images)
            self._submit(plan, {classifier.input.name: feed}, time.perf_counter_ns() - started_ns)

    def _submit(self, plan: _Plan, feeds: Feeds, input_ns: int) -> None:
        model, call = plan.served.model, plan.call
        model.check_inputs(feeds, finite=self._limits.refuse_non_finite)
        names = tuple([wanted.name for wanted in plan.outputs])
        batch_size = _batch_size(model, names, feeds)
        if batch_size:
            self._limits.check_count(batch_size, "items along axis 0 of its inputs")
        if layers := plan.interface.layers(names):
            self._limits.check_layers(len(layers))
            shapes = {name: feed.shape for name, feed in feeds.items()}
            self._limits.check_estimate(model.estimate_bytes(layers, shapes))
        call.note(samples=batch_size or 1, layers=len(layers))
        self._scheduler.submit(
            Job(
                model=model,
                feeds=feeds,
                outputs=names,
                size=batch_size or 1,
                done=partial(self._finish, plan, batch_size, input_ns),
                abandoned=call.abandoned,
                priority=plan.priority,
            )
        )

    def _finish(
        self, plan: _Plan, batch_size: int | None, input_ns: int, outcome: Result | ServiceError
    ) -> None:
        """Encode what the run gave; runs on the scheduler's thread, so it ends the call itself."""
        with failing(plan.call):
            if isinstance(outcome, ServiceError):
                raise outcome
            started_ns = time.perf_counter_ns()
            outputs = [(wanted.name, _value(plan, wanted, outcome)) for wanted in plan.outputs]
            answer = plan.frame(answers.encode(plan.served, plan.request_id, outputs, outcome))
            self._limits.check_answer(len(answer))
            plan.tally.inference = Inference(
                samples=batch_size or 1,
                executions=outcome.executions,
                input_ns=input_ns,
                queue_ns=outcome.queue_ns,
                infer_ns=outcome.compute_ns,
                output_ns=time.perf_counter_ns() - started_ns,
                cached=outcome.cached,
                cache_ns=outcome.cache_ns,
            )
            plan.call.note(run_batch_size=outcome.run_batch_size)
            plan.call.succeed(answer)


def stream_error(request_id: str, error: ServiceError) -> bytes:
    """Encode a failed message of a stream."""
    answer = pb.ModelStreamInferResponse(
        error_message=str(error), infer_response=pb.ModelInferResponse(id=request_id)
    )
    return answer.SerializeToString()


def _feeds(request: pb.ModelInferRequest, interface: Interface) -> Feeds:
    feeds = {}
    for tensor, elements in zip(request.inputs, contents.contents_of(request), strict=True):
        if tensor.name in feeds:
            raise InvalidRequestError(f'the input "{tensor.name[:100]}" came twice; send it once')
        _check_input(tensor, interface)
        feeds[tensor.name] = contents.array_of(tensor, elements)
    return feeds


def _batch_size(model: Model, outputs: Sequence[str], feeds: Feeds) -> int | None:
    """Return how many items the inputs hold; None if they are no batch for these outputs."""
    sizes = {feed.shape[0] for feed in feeds.values()} if feeds and model.batches(outputs, feeds) else ()
    return next(iter(sizes)) if len(sizes) == 1 else None


def _check_input(tensor: pb.ModelInferRequest.InferInputTensor, interface: Interface) -> None:
    if tensor.parameters:
        parameters.check_memory(tensor.parameters)
    if (expected := interface.datatypes.get(tensor.name)) is None:
        known = ", ".join(f'"{name}"' for name in interface.datatypes)
        raise InvalidRequestError(f'no input "{tensor.name[:100]}"; expected {known}')
    if tensor.datatype != expected and (tensor.datatype, expected) != ("BF16", "FP32"):
        raise InvalidRequestError(
            f'the input "{tensor.name}" has datatype "{tensor.datatype[:100]}"; expected "{expected}"'
        )


def _check_image_shape(tensor: pb.ModelInferRequest.InferInputTensor) -> None:
    shape = list(tensor.shape)
    if len(shape) != 1 and (len(shape) != 2 or shape[1] != 1):
        raise InvalidRequestError(
            f'the input "{tensor.name}" has shape {shape}; image files have [N] or [N, 1]'
        )


def _value(plan: _Plan, wanted: Wanted, result: Result) -> np.ndarray:
    array = result.outputs[wanted.name]
    if not wanted.top_k:
        return array
    classifier = plan.served.classifier_or_none
    labels = classifier.labels if classifier and classifier.output == wanted.name else ()
    batch = plan.served.model.batches((wanted.name,))
    return classify(array, wanted.top_k, labels, batch=batch)
