"""How much one request may bring and ask for, and the refusals of what is more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from service.errors import InvalidRequestError, LimitExceededError
from service.images import ImageLimits


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The limits that hold for every model.

    All methods raise LimitExceededError, `check_count` of nothing InvalidRequestError.
    """

    max_images: int
    max_layers: int
    max_response_bytes: int
    images: ImageLimits

    def check_count(self, count: int, what: str) -> None:
        """Check how many items a request holds."""
        if count == 0:
            raise InvalidRequestError(f"the request holds no {what}; send at least 1")
        if count > self.max_images:
            raise LimitExceededError(
                f"the request holds {count} {what}, the limit is {self.max_images}; send several"
            )

    def check_layers(self, count: int) -> None:
        """Check how many layers a request asks for."""
        if count > self.max_layers:
            raise LimitExceededError(
                f"the request asks for {count} layers, the limit is {self.max_layers}; ask for fewer"
            )

    def check_estimate(self, size: int) -> None:
        """Check how many bytes an answer would probably have."""
        self._check_bytes(size, "would have")

    def check_outputs(self, outputs: Iterable[np.ndarray]) -> None:
        """Check how many bytes an answer has of tensors alone, before any of them is copied."""
        self._check_bytes(sum([output.nbytes for output in outputs]), "has")

    def check_answer(self, size: int) -> None:
        """Check how many bytes an answer has."""
        self._check_bytes(size, "has")

    def _check_bytes(self, size: int, verb: str) -> None:
        if size > self.max_response_bytes:
            raise LimitExceededError(
                f"the answer {verb} {size} bytes, the limit is {self.max_response_bytes};"
                " ask for fewer layers or send fewer images"
            )
