"""The bookkeeping of one stream, without any input or output: both clients drive it."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable

from featurelens import answers, requests
from featurelens.errors import FeaturelensError
from featurelens.images import ImageLike
from featurelens.results import Outcome
from protos.featurelens.v1.classifier_pb2 import ClassifyRequest, ClassifyStreamResponse


class Window:
    """The images of a stream that are under way: sent, or settled and waiting for an earlier one.

    It never holds more than `size` images, so a stream of any length takes bounded memory on both sides.
    """

    def __init__(self, images: Iterable[ImageLike], options: requests.ClassifyOptions, size: int) -> None:
        if size < 1:
            raise ValueError(f"in_flight is {size}, expected 1 or more")
        self._images = enumerate(images)
        self._options = options
        self._size = size
        self._stream_id = uuid.uuid4().hex[
            :12
        ]  # tells this stream's requests from others' in the server's log
        self._outcomes: dict[
            str, Outcome | None
        ] = {}  # by request id, in the images' order; None: not known yet

    def __bool__(self) -> bool:
        return bool(self._outcomes)

    def refill(self) -> list[ClassifyRequest]:
        """Take in as many images as there is room for, and return the requests to send for them."""
        to_send = []
        while len(self._outcomes) < self._size and (entry := next(self._images, None)):
            position, image = entry
            request_id = f"{self._stream_id}-{position}"
            self._outcomes[request_id] = None
            try:
                to_send.append(requests.classify_images([image], self._options, request_id))
            except FeaturelensError as error:
                self._outcomes[request_id] = error
        return to_send

    def settle(self, answer: ClassifyStreamResponse) -> None:
        """Note an answer of the server.

        Raises:
            FeaturelensError: INTERNAL, it answers nothing that is open.
        """
        if self._outcomes.get(answer.id, answer) is not None:
            raise FeaturelensError(
                "INTERNAL", f"the server answered the request {answer.id!r}, which is not open"
            )
        self._outcomes[answer.id] = answers.outcome(answer)

    def settled(self) -> list[Outcome]:
        """Let go of every outcome that has no open image before it, in the images' order."""
        done = list(itertools.takewhile(lambda entry: entry[1] is not None, self._outcomes.items()))
        return [outcome for request_id, _ in done if (outcome := self._outcomes.pop(request_id)) is not None]
