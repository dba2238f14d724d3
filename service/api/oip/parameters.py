"""The parameters of a request that mean something here; others are let through."""

from __future__ import annotations

from collections.abc import Mapping

from protos.inference import messages as pb
from service.errors import InvalidRequestError, UnimplementedError

Parameters = Mapping[str, pb.InferParameter]

_SEQUENCE = "sequence_id"
_SHARED_MEMORY = "shared_memory_region"
_MICROSECOND = 1e-6

NO_SHARED_MEMORY = "shared memory is not offered; send and take tensors in the messages"


def timeout_s(parameters: Parameters) -> float | None:
    """Return after how many seconds the answer isn't wanted any more; None if the request doesn't say.

    Raises:
        InvalidRequestError: it is not a number of microseconds.
    """
    return _natural(parameters, "timeout") * _MICROSECOND or None


def priority(parameters: Parameters) -> int:
    """Return how urgent the request says it is, as `Job` takes it; 0 if it doesn't.

    Raises:
        InvalidRequestError: it is not a natural number.
    """
    return _natural(parameters, "priority")


def check_sequence(parameters: Parameters) -> None:
    """Check that the request is for itself.

    Raises:
        UnimplementedError: it is part of a sequence.
    """
    if _SEQUENCE in parameters:
        raise UnimplementedError("models here keep no state between requests; leave sequence_id out")


def top_k(parameters: Parameters) -> int:
    """Return how many classes of an output are wanted; 0 for the output itself.

    Raises:
        InvalidRequestError: it is not a number above 0.
    """
    check_memory(parameters)
    if "classification" not in parameters:
        return 0
    if (count := _natural(parameters, "classification")) == 0:
        raise InvalidRequestError('the parameter "classification" is 0; expected at least 1')
    return count


def check_memory(parameters: Parameters) -> None:
    """Check that a tensor travels in the message.

    Raises:
        UnimplementedError: it is in shared memory.
    """
    if _SHARED_MEMORY in parameters:
        raise UnimplementedError(NO_SHARED_MEMORY)


def _natural(parameters: Parameters, name: str) -> int:
    if name not in parameters:
        return 0
    parameter = parameters[name]
    kind = parameter.WhichOneof("parameter_choice")
    value = getattr(parameter, kind) if kind in ("int64_param", "uint64_param") else None
    if value is None or value < 0:
        got = "nothing" if kind is None else f"{kind} {str(getattr(parameter, kind))[:100]}"
        raise InvalidRequestError(
            f'the parameter "{name}" is {got}; expected int64_param or uint64_param, not negative'
        )
    return int(value)
