"""The client for ordinary, blocking code."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeAlias, TypeVar, Unpack

import grpc
import numpy as np
import numpy.typing as npt

from featurelens import answers, requests
from featurelens.channel import (
    DEFAULT_ADDRESS,
    DEFAULT_TIMEOUT_S,
    HEALTH_CHECK,
    OPTIONS,
    SERVING,
    WHOLE_SERVER,
    check_address,
    no_answer,
    translate,
)
from featurelens.errors import FeaturelensError
from featurelens.images import ImageLike
from featurelens.requests import ClassifyOptions
from featurelens.results import ModelDescription, ModelSummary, Outcome, Prediction
from featurelens.security import Tls, bearer, credentials
from featurelens.stream import Window
from protos.featurelens.v1.classifier_pb2 import (
    ClassifyRequest,
    ClassifyStreamResponse,
    ListModelsRequest,
)
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub

# What a stream's reader hands over: answers, and the error that ended the stream.
_Incoming: TypeAlias = queue.SimpleQueue[ClassifyStreamResponse | FeaturelensError]
_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


class Client:
    """A connection to a featurelens server; usable from many threads, and as a context manager.

    Every call has a deadline and raises FeaturelensError. Calls that end UNAVAILABLE are tried again, up to
    three times within the deadline.

    Args:
        address: host:port of the server.
        timeout: seconds that a call may take, unless the call says otherwise.
        tls: True trusts the authorities that gRPC brings; Tls names others, and the client's own certificate.
        token: bearer token for servers that ask for one; send it over TLS, or on this machine.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        tls: Tls | bool = False,
        token: str = "",
    ) -> None:
        self.address = check_address(address)
        self.timeout = timeout
        self._metadata = bearer(token)
        secrets = credentials(tls)
        self._channel = (
            grpc.secure_channel(address, secrets, options=OPTIONS)
            if secrets
            else grpc.insecure_channel(address, options=OPTIONS)
        )
        self._classifier = ClassifierStub(self._channel)
        self._check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(HEALTH_CHECK)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way end CANCELLED."""
        self._channel.close()

    def classify(self, image: ImageLike, **options: Unpack[ClassifyOptions]) -> Prediction:
        """Classify one image: file bytes, a path, or uint8 pixels [H, W], [H, W, 3] or [H, W, 4]."""
        return self.classify_many([image], **options)[0]

    def classify_many(
        self, images: Iterable[ImageLike], **options: Unpack[ClassifyOptions]
    ) -> list[Prediction]:
        """Classify images in one call, all or none; for many images or doubtful ones see classify_stream."""
        return self._classify(requests.classify_images(images, options), options)

    def classify_tensor(
        self, tensor: npt.NDArray[np.generic], **options: Unpack[ClassifyOptions]
    ) -> list[Prediction]:
        """Classify a batch [N, ...] in the model's own format: for LeNet float32 [N, 1, 32, 32], ink 1."""
        return self._classify(requests.classify_tensor(tensor, options), options)

    def classify_stream(
        self, images: Iterable[ImageLike], *, in_flight: int = 32, **options: Unpack[ClassifyOptions]
    ) -> Generator[Outcome]:
        """Classify any number of images over one stream; yield each one's outcome, in order.

        Args:
            images: taken in as there is room, in the caller's thread.
            in_flight: how many images may be under way.
            options: as for classify.

        Raises:
            FeaturelensError: the stream itself failed; what is wrong with one image is yielded instead.
        """
        window = Window(images, options, in_flight)
        timeout = options.get("timeout", self.timeout)
        outgoing: queue.SimpleQueue[ClassifyRequest | None] = queue.SimpleQueue()
        incoming: _Incoming = queue.SimpleQueue()
        call = self._classifier.ClassifyStream(iter(outgoing.get, None), metadata=self._metadata)
        threading.Thread(target=self._read, args=(call, incoming, timeout), daemon=True).start()
        try:
            while True:
                for request in window.refill():
                    outgoing.put(request)
                if not window:
                    break
                if outcomes := window.settled():
                    yield from outcomes
                else:
                    window.settle(self._receive(incoming, timeout))
            outgoing.put(None)
            with suppress(FeaturelensError):  # the server sees the stream end, not a cancellation
                self._receive(incoming, timeout)
        finally:
            outgoing.put(None)  # gRPC's sending thread waits for it
            call.cancel()

    def models(self) -> list[ModelSummary]:
        """List every version of every model."""
        return answers.model_summaries(self._call(self._classifier.ListModels, ListModelsRequest()))

    def describe(
        self, model: str = "", version: str = "", *, layers: Sequence[str] = (), weights: bool = False
    ) -> ModelDescription:
        """Describe a model and its layers; by default the only model, in the version that answers.

        `layers` names some as for classify: "layer3", "layer3*", "op:Conv".
        """
        request = requests.describe(model, version, layers, weights=weights)
        return answers.model_description(self._call(self._classifier.DescribeModel, request))

    def is_serving(self) -> bool:
        """Tell whether the server answers calls (grpc.health.v1); False too when nobody answers at all."""
        try:
            return self._call(self._check, WHOLE_SERVER) == SERVING
        except FeaturelensError:
            return False

    def _classify(self, request: ClassifyRequest, options: ClassifyOptions) -> list[Prediction]:
        return answers.predictions(self._call(self._classifier.Classify, request, options.get("timeout")))

    def _call(
        self,
        method: grpc.UnaryUnaryMultiCallable[_Request, _Answer],
        request: _Request,
        timeout: float | None = None,
    ) -> _Answer:
        deadline = self.timeout if timeout is None else timeout
        try:
            return method(request, timeout=deadline, metadata=self._metadata)
        except grpc.RpcError as error:
            raise translate(error, self.address, deadline) from error

    def _read(self, call: Iterable[ClassifyStreamResponse], incoming: _Incoming, timeout: float) -> None:
        """Hand the answers over to the caller's thread, which can then wait for each with a timeout."""
        try:
            for answer in call:
                incoming.put(answer)
            incoming.put(
                FeaturelensError("INTERNAL", f"{self.address} ended the stream with images unanswered")
            )
        except grpc.RpcError as error:
            incoming.put(translate(error, self.address, timeout))

    def _receive(self, incoming: _Incoming, timeout: float) -> ClassifyStreamResponse:
        try:
            event = incoming.get(timeout=timeout)
        except queue.Empty:
            raise no_answer(self.address, timeout) from None
        if isinstance(event, FeaturelensError):
            raise event
        return event
