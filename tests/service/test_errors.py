"""Every error has a status, and only one table says which."""

from __future__ import annotations

import grpc
import pytest

from service import errors
from service.api.status import STATUS, status_of


def test_every_error_has_a_status() -> None:
    assert set(STATUS) == set(errors.ServiceError.__subclasses__())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidRequestError, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.InvalidImageError, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.UnknownLayerError, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.UnknownModelError, grpc.StatusCode.NOT_FOUND),
        (errors.ModelNotReadyError, grpc.StatusCode.UNAVAILABLE),
        (errors.DrainingError, grpc.StatusCode.UNAVAILABLE),
        (errors.OverloadedError, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.LimitExceededError, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.DeadlineExceededError, grpc.StatusCode.DEADLINE_EXCEEDED),
        (errors.CancelledError, grpc.StatusCode.CANCELLED),
        (errors.UnimplementedError, grpc.StatusCode.UNIMPLEMENTED),
        (errors.InternalError, grpc.StatusCode.INTERNAL),
        (errors.ExecutionError, grpc.StatusCode.INTERNAL),
    ],
)
def test_status_of(error: type[errors.ServiceError], status: grpc.StatusCode) -> None:
    assert status_of(error("why")) is status
