"""What can go wrong, in our own words.

Every error that a caller may see is a ServiceError. A message says what came, what was expected and what to
do; it holds no path, class name or other internal. Which gRPC status it becomes, service/api/status.py says.
"""

from __future__ import annotations


class ServiceError(Exception):
    """An error whose message is meant for the caller."""


class InvalidRequestError(ServiceError):
    """The request is wrong whatever the server's state."""


class InvalidImageError(InvalidRequestError):
    """The bytes are not an image that the server accepts."""


class UnknownLayerError(InvalidRequestError):
    """The graph has no such layer."""


class UnknownModelError(ServiceError):
    """The repository has no such model or version."""


class ModelNotReadyError(ServiceError):
    """The model exists and can't answer now."""


class ModelRefusedError(ServiceError):
    """The model that is to be loaded can't be; its files have to be corrected first."""


class OverloadedError(ServiceError):
    """Too much is being worked on: try again later."""


class QueueFullError(OverloadedError):
    """Too many requests already wait for the model."""


class LimitExceededError(ServiceError):
    """The request, or the answer it asks for, is over a limit of the server."""


class DrainingError(ServiceError):
    """The server is shutting down: try elsewhere."""


class DeadlineExceededError(ServiceError):
    """The caller's deadline passed before the answer was ready."""


class CancelledError(ServiceError):
    """The caller went away."""


class UnauthenticatedError(ServiceError):
    """The call brings no token that the server knows."""


class PermissionDeniedError(ServiceError):
    """The caller's token doesn't open this."""


class UnimplementedError(ServiceError):
    """The server doesn't offer this; the message says what to do instead."""


class InternalError(ServiceError):
    """A fault of the server; what it was is in the log, under the request's id."""


class ExecutionError(InternalError):
    """The run of the model failed."""


class NonFiniteOutputError(ExecutionError):
    """The model answered with NaN or infinity, which no probabilities can be made of."""


class StartupError(Exception):
    """The server can't start; the message is for the operator, who may see paths."""


class ModelLoadError(StartupError):
    """A model file can't be loaded."""


class DeviceUnavailableError(StartupError):
    """The wanted execution provider is not there."""
