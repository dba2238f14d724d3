"""The client for asyncio: the same calls as the blocking one, to be awaited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar, Unpack

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

_Call = grpc.aio.StreamStreamCall[ClassifyRequest, ClassifyStreamResponse]
_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


class AsyncClient:
    """A connection to a featurelens server for one event loop; what Client says of its calls holds here too.

    Files are read and pixels encoded in a thread, so that the event loop never waits for them.
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
            grpc.aio.secure_channel(address, secrets, options=OPTIONS)
            if secrets
            else grpc.aio.insecure_channel(address, options=OPTIONS)
        )
        self._classifier = ClassifierStub(self._channel)
        self._check: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(HEALTH_CHECK)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        await self._channel.close()

    async def classify(self, image: ImageLike, **options: Unpack[ClassifyOptions]) -> Prediction:
        """Classify one image: file bytes, a path, or uint8 pixels [H, W], [H, W, 3] or [H, W, 4]."""
        return (await self.classify_many([image], **options))[0]

    async def classify_many(
        self, images: Iterable[ImageLike], **options: Unpack[ClassifyOptions]
    ) -> list[Prediction]:
        """Classify images in one call, all or none; for many images or doubtful ones see classify_stream."""
        request = await asyncio.to_thread(requests.classify_images, images, options)
        return await self._classify(request, options)

    async def classify_tensor(
        self, tensor: npt.NDArray[np.generic], **options: Unpack[ClassifyOptions]
    ) -> list[Prediction]:
        """Classify a batch [N, ...] in the model's own format: for LeNet float32 [N, 1, 32, 32], ink 1."""
        return await self._classify(requests.classify_tensor(tensor, options), options)

    async def classify_stream(
        self, images: Iterable[ImageLike], *, in_flight: int = 32, **options: Unpack[ClassifyOptions]
    ) -> AsyncGenerator[Outcome]:
        """Classify any number of images over one stream; yield each one's outcome, in order.

        Args:
            images: taken in as there is room, in a thread.
            in_flight: how many images may be under way.
            options: as for classify.

        Raises:
            FeaturelensError: the stream itself failed; what is wrong with one image is yielded instead.
        """
        window = Window(images, options, in_flight)
        timeout = options.get("timeout", self.timeout)
        outgoing: asyncio.Queue[ClassifyRequest | None] = asyncio.Queue()
        call = self._classifier.ClassifyStream(_until_none(outgoing), metadata=self._metadata)
        try:
            while True:
                for request in await asyncio.to_thread(window.refill):
                    outgoing.put_nowait(request)
                if not window:
                    break
                if outcomes := window.settled():
                    for outcome in outcomes:
                        yield outcome
                else:
                    window.settle(await self._receive(call, timeout))
            outgoing.put_nowait(None)
            with suppress(FeaturelensError):  # the server sees the stream end, not a cancellation
                await self._receive(call, timeout)
        finally:
            outgoing.put_nowait(None)
            call.cancel()

    async def models(self) -> list[ModelSummary]:
        """List every version of every model."""
        return answers.model_summaries(await self._call(self._classifier.ListModels, ListModelsRequest()))

    async def describe(
        self, model: str = "", version: str = "", *, layers: Sequence[str] = (), weights: bool = False
    ) -> ModelDescription:
        """Describe a model and its layers; by default the only model, in the version that answers.

        `layers` names some as for classify: "layer3", "layer3*", "op:Conv".
        """
        request = requests.describe(model, version, layers, weights=weights)
        return answers.model_description(await self._call(self._classifier.DescribeModel, request))

    async def is_serving(self) -> bool:
        """Tell whether the server answers calls (grpc.health.v1); False too when nobody answers at all."""
        try:
            return await self._call(self._check, WHOLE_SERVER) == SERVING
        except FeaturelensError:
            return False

    async def _classify(self, request: ClassifyRequest, options: ClassifyOptions) -> list[Prediction]:
        return answers.predictions(
            await self._call(self._classifier.Classify, request, options.get("timeout"))
        )

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Answer],
        request: _Request,
        seconds: float | None = None,
    ) -> _Answer:
        deadline = self.timeout if seconds is None else seconds
        try:
            return await method(request, timeout=deadline, metadata=self._metadata)
        except grpc.RpcError as error:
            raise translate(error, self.address, deadline) from error

    async def _receive(self, call: _Call, seconds: float) -> ClassifyStreamResponse:
        try:
            answer = await asyncio.wait_for(call.read(), seconds)
        except TimeoutError:
            raise no_answer(self.address, seconds) from None
        except grpc.RpcError as error:
            raise translate(error, self.address, seconds) from error
        if not isinstance(answer, ClassifyStreamResponse):  # grpc.aio.EOF
            raise FeaturelensError("INTERNAL", f"{self.address} ended the stream with images unanswered")
        return answer


async def _until_none(outgoing: asyncio.Queue[ClassifyRequest | None]) -> AsyncIterator[ClassifyRequest]:
    while (request := await outgoing.get()) is not None:
        yield request
