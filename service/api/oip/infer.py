"""ModelInfer and ModelStreamInfer: from an encoded request to a job, and from its result to an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

import numpy as np

from protos.inference import messages as pb
from service.api.call import Call
from service.api.dispatch import fail, failing
from service.api.limits import RequestLimits
from service.api.oip import answers, contents, parameters
from service.api.oip.classification import classify
from service.api.oip.datatypes import narrowed
from service.api.oip.interface import Interface, Interfaces, Wanted, takes_images
from service.api.oip.known import KnownRequests
from service.api.oip.query import Feeds, Query, Urgency, query, urgency
from service.api.oip.requests import parse
from service.api.pictures import prepare_all
from service.api.tally import Tally
from service.errors import InvalidRequestError, ServiceError
from service.feeds import check_finite
from service.job import Job, Result
from service.repository import Repository, ServedModel
from service.scheduler import Scheduler
from service.statistics import Inference

Frame = Callable[[bytes], bytes]


class _Question:
    """A request on its way; its `answer` is what the job is done with."""

    __slots__ = ("call", "frame", "input_ns", "limits", "query", "request_id", "served", "tally", "warnings")

    def __init__(
        self, call: Call, served: ServedModel, request_id: str, frame: Frame, limits: RequestLimits
    ) -> None:
        self.call = call
        self.served = served
        self.request_id = request_id
        self.frame = frame
        self.limits = limits
        self.tally = call.tally = Tally(served)
        self.input_ns = 0
        self.warnings = b""

    def job(self, query: Query, feeds: Feeds, input_ns: int) -> Job:
        """Make the job that answers the request."""
        self.query = query
        self.input_ns = input_ns
        self.tally.layers = query.layers
        job = Job(
            self.served.model,
            feeds,
            query.tensors,
            query.samples,
            self.answer,
            self.call.abandoned,
            query.urgency.priority,
            query.run_key,
        )
        self.tally.queued_ns = job.queued_ns
        return job

    def answer(self, outcome: Result | ServiceError) -> None:
        """Encode what the run gave; called on the scheduler's thread, so it ends the call itself."""
        try:
            if isinstance(outcome, ServiceError):
                raise outcome
            started_ns = time.perf_counter_ns()
            whole = [wanted.tensor for wanted in self.query.outputs if not wanted.top_k]
            self.limits.check_outputs([outcome.outputs[name] for name in whole])
            outputs = [_value(self.served, wanted, outcome) for wanted in self.query.outputs]
            encoded = self.query.form.encode(self.request_id, outputs, self.input_ns, outcome)
            answer = self.frame(encoded + self.warnings if self.warnings else encoded)
            self.limits.check_answer(len(answer))
            output_ns = time.perf_counter_ns() - started_ns
            self.tally.run_batch_size = outcome.run_batch_size
            self.tally.inference = Inference(
                self.query.samples,
                outcome.executions,
                self.input_ns,
                outcome.queue_ns,
                outcome.compute_ns,
                output_ns,
                outcome.cached,
                outcome.cache_ns,
            )
            self.call.succeed(answer)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the call's
            fail(self.call, error)


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
        self._known = KnownRequests(repository)

    def unary(self, request: bytes, call: Call) -> None:
        """Answer with an encoded ModelInferResponse."""
        self._begin(request, call, bytes)

    def streamed(self, request: bytes, call: Call) -> None:
        """Answer with an encoded ModelStreamInferResponse."""
        self._begin(request, call, answers.in_stream)

    def _begin(self, data: bytes, call: Call, frame: Frame) -> None:
        known = self._known.find(data)
        if known is None or (served := known.model()) is None:
            self._begin_unknown(data, call, frame)
            return
        started_ns = time.perf_counter_ns()
        question = _Question(call, served, "", frame, self._limits)
        if (timeout_s := known.query.urgency.timeout_s) is not None:
            call.tighten(timeout_s)
        feeds = known.feeds(data)
        if served.finite:
            for name, feed in feeds.items():
                check_finite(feed, name)
        self._scheduler.submit(question.job(known.query, feeds, time.perf_counter_ns() - started_ns))

    def _begin_unknown(self, data: bytes, call: Call, frame: Frame) -> None:
        started_ns = time.perf_counter_ns()
        generation = self._repository.generation
        request = parse(pb.ModelInferRequest, data)
        call.identify(request.id)
        served = self._repository.get(request.model_name, request.model_version)
        question = _Question(call, served, request.id, frame, self._limits)
        urgent = urgency(request)
        if urgent.timeout_s is not None:
            call.tighten(urgent.timeout_s)
        interface = self._interfaces.of(served)
        outputs = interface.wanted(request)
        if takes_images(interface, request):
            images = contents.elements_of(request.inputs[0], contents.contents_of(request)[0])
            _check_image_shape(request.inputs[0])
            self._limits.check_count(len(images), "images")
            self._workers.submit(self._decode, question, outputs, urgent, images)
            return
        feeds = _feeds(request, interface)
        checked = self._query(question, outputs, urgent, feeds)
        self._known.remember(generation, data, request, served, checked)
        self._scheduler.submit(question.job(checked, feeds, time.perf_counter_ns() - started_ns))

    def _decode(
        self, question: _Question, outputs: tuple[Wanted, ...], urgent: Urgency, images: Sequence[bytes]
    ) -> None:
        """Make a feed of image files and submit it; runs on a worker, so it ends the call itself."""
        with failing(question.call):
            if (reason := question.call.abandoned()) is not None:
                raise reason
            started_ns = time.perf_counter_ns()
            classifier = question.served.classifier()
            made = prepare_all(images, classifier.preprocessing, self._limits.images)
            question.warnings = answers.warnings(made.no_ink)
            feeds = classifier.feeds(made.feed, question.served.model.inputs)
            checked = self._query(question, outputs, urgent, feeds)
            self._scheduler.submit(question.job(checked, feeds, time.perf_counter_ns() - started_ns))

    def _query(
        self, question: _Question, outputs: tuple[Wanted, ...], urgent: Urgency, feeds: Feeds
    ) -> Query:
        layers = self._interfaces.of(question.served).layers(
            dict.fromkeys(wanted.tensor for wanted in outputs)
        )
        return query(question.served, outputs, layers, feeds, urgent, self._limits)


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


def _check_input(tensor: pb.ModelInferRequest.InferInputTensor, interface: Interface) -> None:
    if tensor.parameters:
        parameters.check_memory(tensor.parameters)
    if (expected := interface.datatypes.get(tensor.name)) is None:
        known = ", ".join(f'"{name}"' for name in interface.datatypes)
        raise InvalidRequestError(f'no input "{tensor.name[:100]}"; expected {known}')
    if tensor.datatype != expected and {tensor.datatype, expected} != {"BF16", "FP32"}:
        raise InvalidRequestError(
            f'the input "{tensor.name}" has datatype "{tensor.datatype[:100]}"; expected "{expected}"'
        )


def _check_image_shape(tensor: pb.ModelInferRequest.InferInputTensor) -> None:
    shape = list(tensor.shape)
    if len(shape) != 1 and (len(shape) != 2 or shape[1] != 1):
        raise InvalidRequestError(
            f'the input "{tensor.name}" has shape {shape}; image files have [N] or [N, 1]'
        )


def _value(served: ServedModel, wanted: Wanted, result: Result) -> np.ndarray:
    array = result.outputs[wanted.tensor]
    if not wanted.top_k:
        return narrowed(array) if wanted.bfloat16 else array
    classifier = served.classifier_or_none
    labels = classifier.labels if classifier and classifier.output == wanted.tensor else ()
    batch = served.model.batches((wanted.tensor,))
    return classify(array, wanted.top_k, labels, batch=batch)
