"""Encodes answers: the tensors' bytes are copied once, from the arrays into the message."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from protos.inference import messages as pb
from service.api.oip import strings
from service.api.oip.datatypes import ANSWER_WIRE, BYTES, datatype_of
from service.api.pictures import NO_INK
from service.api.wire import LONGEST_VARINT, prefix, text, varint
from service.errors import InvalidRequestError
from service.job import Result

_ID = pb.ModelInferResponse.ID_FIELD_NUMBER
_PARAMETERS = pb.ModelInferResponse.PARAMETERS_FIELD_NUMBER
_RAW = pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER
_RESPONSE = pb.ModelStreamInferResponse.INFER_RESPONSE_FIELD_NUMBER
_INTEGER = pb.InferParameter.INT64_PARAM_FIELD_NUMBER
_Kinds = list[tuple[np.dtype[np.generic], tuple[int, ...]]]


class Form:
    """What the answers to requests of one kind have in common: encoded once, until types or shapes change."""

    __slots__ = ("_last", "_model", "_names", "_version")

    def __init__(self, model: str, version: str, names: Sequence[str]) -> None:
        self._model = model
        self._version = version
        self._names = names
        self._last: tuple[_Kinds, list[bytes]] = ([], [])

    def encode(self, request_id: str, outputs: Sequence[np.ndarray], decode_ns: int, result: Result) -> bytes:
        """Encode a ModelInferResponse.

        Raises:
            InvalidRequestError: an output has a type that the protocol can't tell.
        """
        kinds = [(array.dtype, array.shape) for array in outputs]
        known, before = self._last
        if kinds != known:
            before = self._before(kinds)
            self._last = kinds, before
        # Serialized messages that follow each other merge when parsed, their repeated fields concatenated:
        # https://protobuf.dev/programming-guides/encoding/#last-one-wins
        parts: list[bytes | memoryview] = []
        for array, head in zip(outputs, before, strict=True):
            parts += (head, *_raw(array))
        if request_id:
            parts += text(_ID, request_id.encode())
        parts += _timings(decode_ns, result)
        return b"".join(parts)

    def _before(self, kinds: _Kinds) -> list[bytes]:
        """Encode what comes before the bytes of each output."""
        tensor = pb.ModelInferResponse.InferOutputTensor
        described = [
            tensor(name=name, datatype=_datatype(name, dtype), shape=shape)
            for name, (dtype, shape) in zip(self._names, kinds, strict=True)
        ]
        head = pb.ModelInferResponse(
            model_name=self._model, model_version=self._version, outputs=described
        ).SerializeToString()
        before = [_raw_prefix(dtype, shape) for dtype, shape in kinds]
        return [head + before[0], *before[1:]]


def warnings(no_ink: Sequence[int]) -> bytes:
    """Encode what follows a ModelInferResponse to which pictures without ink were sent, by their numbers."""
    if not no_ink:
        return b""
    answer = pb.ModelInferResponse()
    told = "; ".join(f"images[{index}]: {NO_INK}" for index in no_ink)
    answer.parameters["featurelens_warnings"].string_param = told
    return answer.SerializeToString()


def in_stream(answer: bytes) -> bytes:
    """Make a ModelStreamInferResponse of an encoded ModelInferResponse."""
    return prefix(_RESPONSE, len(answer)) + answer


def _datatype(name: str, dtype: np.dtype[np.generic]) -> str:
    if not (datatype := datatype_of(dtype)):
        raise InvalidRequestError(f'the output "{name}" is {dtype}, which this protocol has no type for')
    return datatype


def _raw_prefix(dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> bytes:
    """Encode what comes before elements; the size of texts isn't known from their shape."""
    if datatype_of(dtype) == BYTES:
        return b""
    return prefix(_RAW, int(np.prod(shape, dtype=np.int64)) * dtype.itemsize)


def _raw(array: np.ndarray) -> tuple[bytes | memoryview, ...]:
    """Return the elements as they go into the message; of texts with what comes before them."""
    if (datatype := datatype_of(array.dtype)) == BYTES:
        return text(_RAW, strings.encoded(array))
    return (np.ascontiguousarray(array, ANSWER_WIRE[datatype]).data,)


def _before_number(name: bytes) -> list[bytes]:
    """Encode what comes before the value of an integer parameter, for each length that it may have."""

    def before(length: int) -> bytes:
        value = prefix(2, 1 + length) + varint(_INTEGER << 3)  # a map's entry is a message of key and value
        entry = b"".join((*text(1, name), value))
        return prefix(_PARAMETERS, len(entry) + length) + entry

    return [before(length) for length in range(LONGEST_VARINT + 1)]


def _timings(decode_ns: int, result: Result) -> tuple[bytes, ...]:
    """Encode the parameters that tell where the time went."""
    decode, queue, compute = varint(decode_ns), varint(result.queue_ns), varint(result.compute_ns)
    return (
        *(_BEFORE_DECODE[len(decode)], decode),
        *(_BEFORE_QUEUE[len(queue)], queue),
        *(_BEFORE_COMPUTE[len(compute)], compute),
    )


_BEFORE_DECODE = _before_number(b"decode_ns")
_BEFORE_QUEUE = _before_number(b"queue_ns")
_BEFORE_COMPUTE = _before_number(b"compute_ns")
