"""Servers that fail in ways the real one can't be made to, for the client's side of a failure."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from protos.featurelens.v1.classifier_pb2 import (
    Classification,
    ClassifyResponse,
    ClassifyStreamResponse,
    DescribeModelResponse,
    ListModelsResponse,
    ModelSummary,
    Score,
)
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierServicer, add_ClassifierServicer_to_server

SEVEN = ClassifyResponse(results=[Classification(scores=[Score(index=7, label="7", probability=1.0)])])


class Unimplemented(ClassifierServicer):
    """Answers nothing; tests override what they need."""

    def Classify(self, request: Any, context: Any) -> Any:  # noqa: ANN401, N802
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "")

    ListModels = DescribeModel = Classify

    def ClassifyStream(self, request_iterator: Any, context: Any) -> Any:  # noqa: ANN401, N802
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "")


class Unavailable(Unimplemented):
    """Is not available for the first `failures` calls."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    def ListModels(self, request: Any, context: Any) -> ListModelsResponse:  # noqa: ANN401, N802
        self.calls += 1
        if self.calls <= self.failures:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the server is draining")
        return ListModelsResponse(models=[ModelSummary(name="lenet")])


class Silent(Unimplemented):
    """Takes requests and never answers, until it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def Classify(self, request: Any, context: Any) -> Any:  # noqa: ANN401, N802
        self.released.wait()

    ListModels = DescribeModel = Classify

    def ClassifyStream(self, request_iterator: Any, context: Any) -> Any:  # noqa: ANN401, N802
        self.released.wait()
        yield from ()


class EndsEarly(Unimplemented):
    """Ends a stream before it has answered."""

    def ClassifyStream(self, request_iterator: Any, context: Any) -> Any:  # noqa: ANN401, N802
        yield from ()


class Describing(Unimplemented):
    """Answers so many requests of a stream, then ends it UNAVAILABLE, or waits until it is released."""

    def __init__(self, answers: int, *, then_wait: bool = False) -> None:
        self.answers = answers
        self.then_wait = then_wait
        self.waiting = threading.Event()
        self.released = threading.Event()

    def DescribeModel(self, request: Any, context: Any) -> DescribeModelResponse:  # noqa: ANN401, N802
        return DescribeModelResponse(name="lenet", version="1", labels=["cat", "dog"])

    def ClassifyStream(self, request_iterator: Any, context: Any) -> Any:  # noqa: ANN401, N802
        for request in itertools.islice(request_iterator, self.answers):
            yield ClassifyStreamResponse(id=request.id, response=SEVEN)
        if self.then_wait:
            self.waiting.set()
            self.released.wait()
        context.abort(grpc.StatusCode.UNAVAILABLE, "the server is draining")


@contextmanager
def failing_server(servicer: ClassifierServicer) -> Iterator[str]:
    """Serve on a port of the kernel's choice and yield the address."""
    with ThreadPoolExecutor(4) as workers:
        server = grpc.server(workers)
        add_ClassifierServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(grace=None).wait()
