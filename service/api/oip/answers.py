"""Encodes answers: the tensors' bytes are copied once, from the arrays into the message."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from protos.inference import messages as pb
from service.api.oip import strings
from service.api.oip.datatypes import ANSWER_WIRE, BYTES, datatype_of
from service.errors import InvalidRequestError
from service.job import Result
from service.repository import ServedModel

_RAW = pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER
_RESPONSE = pb.ModelStreamInferResponse.INFER_RESPONSE_FIELD_NUMBER

Described = tuple[tuple[str, str, tuple[int, ...]], ...]
"""Name, datatype and shape of each output."""


def encode(
    served: ServedModel, request_id: str, outputs: Sequence[tuple[str, np.ndarray]], result: Result
) -> bytes:
    """Encode a ModelInferResponse.

    Raises:
        InvalidRequestError: an output has a type that the protocol can't tell.
    """
    described = tuple((name, _datatype(name, array), array.shape) for name, array in outputs)
    # Serialized messages that follow each other merge when parsed, their repeated fields concatenated:
    # https://protobuf.dev/programming-guides/encoding/#last-one-wins
    parts: list[bytes | memoryview] = [
        _head(served.name, served.version, described),
        _own(request_id, result.queue_ns, result.compute_ns),
    ]
    for (_, datatype, _), (_, array) in zip(described, outputs, strict=True):
        if datatype == BYTES:
            texts = strings.encoded(array)
            parts += (_prefix(_RAW, len(texts)), texts)
        else:
            parts += (_prefix(_RAW, array.nbytes), np.ascontiguousarray(array, ANSWER_WIRE[datatype]).data)
    return b"".join(parts)


def in_stream(answer: bytes) -> bytes:
    """Make a ModelStreamInferResponse of an encoded ModelInferResponse."""
    return _prefix(_RESPONSE, len(answer)) + answer


def _datatype(name: str, array: np.ndarray) -> str:
    if not (datatype := datatype_of(array.dtype)):
        raise InvalidRequestError(
            f'the output "{name}" is {array.dtype}, which this protocol has no type for'
        )
    return datatype


@lru_cache(maxsize=1024)
def _head(name: str, version: str, outputs: Described) -> bytes:
    """Encode what the answers of a model have in common."""
    return pb.ModelInferResponse(
        model_name=name,
        model_version=version,
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(name=name, datatype=datatype, shape=shape)
            for name, datatype, shape in outputs
        ],
    ).SerializeToString()


def _own(request_id: str, queue_ns: int, compute_ns: int) -> bytes:
    """Encode what one answer has for itself."""
    response = pb.ModelInferResponse(id=request_id)
    response.parameters["queue_ns"].int64_param = queue_ns
    response.parameters["compute_ns"].int64_param = compute_ns
    return response.SerializeToString()


def _prefix(field: int, size: int) -> bytes:
    """Encode what stands before the bytes of a field: its number, that it has a length, and the length."""
    return _varint(field << 3 | 2) + _varint(size)


def _varint(number: int) -> bytes:
    """Encode a number in groups of 7 bits, the lowest first, each but the last with the high bit set."""
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)
