"""The one table that maps our errors to gRPC status codes, and the codes of what isn't an error of ours."""

from __future__ import annotations

import grpc

from service import errors

STATUS: dict[type[errors.ServiceError], grpc.StatusCode] = {
    errors.InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,  # wrong whatever our state: don't retry
    errors.UnknownModelError: grpc.StatusCode.NOT_FOUND,
    errors.ModelNotReadyError: grpc.StatusCode.UNAVAILABLE,  # retry, here or elsewhere
    errors.ModelRefusedError: grpc.StatusCode.FAILED_PRECONDITION,  # correct its files first
    errors.DrainingError: grpc.StatusCode.UNAVAILABLE,
    errors.OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,  # back off, then retry
    errors.LimitExceededError: grpc.StatusCode.RESOURCE_EXHAUSTED,  # ask for less
    errors.DeadlineExceededError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.CancelledError: grpc.StatusCode.CANCELLED,
    errors.UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.UnimplementedError: grpc.StatusCode.UNIMPLEMENTED,
    errors.InternalError: grpc.StatusCode.INTERNAL,
}


def status_of(error: errors.ServiceError) -> grpc.StatusCode:
    """Look up the status of an error, or of the nearest of its base classes that has one."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
