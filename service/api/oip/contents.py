"""The elements of a request's tensors: raw bytes or typed numbers, checked and made arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from protos.inference import messages as pb
from protos.tensors import element_count, view
from service.api.oip import strings
from service.api.oip.datatypes import BF16, BYTES, WIRE
from service.errors import InvalidRequestError

Contents = bytes | pb.InferTensorContents

_TYPED_FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
_TYPED_DTYPES = {"int_contents": np.dtype(np.int32), "uint_contents": np.dtype(np.uint32)}


def contents_of(request: pb.ModelInferRequest) -> Sequence[Contents]:
    """Return where the elements of each input are.

    Raises:
        InvalidRequestError: some are raw and some typed, or there is not one raw entry for each input.
    """
    raw = request.raw_input_contents
    if not raw:
        return [tensor.contents for tensor in request.inputs]
    if len(raw) != len(request.inputs):
        raise InvalidRequestError(
            f"raw_input_contents has {len(raw)} entries, expected {len(request.inputs)}: one for each input"
        )
    for tensor in request.inputs:
        if tensor.HasField("contents") and tensor.contents.ListFields():
            raise InvalidRequestError(
                f'the input "{tensor.name[:100]}" has contents beside raw_input_contents; send one of them'
            )
    return raw


def array_of(tensor: pb.ModelInferRequest.InferInputTensor, contents: Contents) -> np.ndarray:
    """Make the array of an input; one of raw elements is read-only and shares their bytes.

    Raises:
        InvalidRequestError: datatype, shape and elements don't agree.
    """
    shape = tuple(tensor.shape)
    datatype = tensor.datatype
    try:
        if datatype == BYTES:
            return strings.texts(_elements(contents, element_count(shape)), shape)
        if isinstance(contents, bytes):
            return _widened(contents, shape) if datatype == BF16 else view(contents, shape, WIRE[datatype])
        return _typed(contents, shape, datatype)
    except ValueError as error:
        raise InvalidRequestError(f'the input "{tensor.name}": {error}') from None


def elements_of(tensor: pb.ModelInferRequest.InferInputTensor, contents: Contents) -> Sequence[bytes]:
    """Return the elements of an input of datatype BYTES as they are.

    Raises:
        InvalidRequestError: shape and elements don't agree.
    """
    try:
        return _elements(contents, element_count(tensor.shape))
    except ValueError as error:
        raise InvalidRequestError(f'the input "{tensor.name}": {error}') from None


def _elements(contents: Contents, count: int) -> Sequence[bytes]:
    if isinstance(contents, bytes):
        return strings.split(contents, count)
    _check_field(contents, "bytes_contents", BYTES)
    strings.check_count(contents.bytes_contents, count)
    return contents.bytes_contents


def _widened(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Make float32 of bfloat16, which has the same exponent and the upper 7 bits of the fraction."""
    upper = view(data, shape, np.dtype("<u2"))
    return (upper.astype(np.uint32) << 16).view(np.float32)


def _typed(contents: pb.InferTensorContents, shape: tuple[int, ...], datatype: str) -> np.ndarray:
    if (field := _TYPED_FIELDS.get(datatype)) is None:
        raise ValueError(f"there are no typed contents of {datatype}; send raw_input_contents")
    _check_field(contents, field, datatype)
    values = getattr(contents, field)
    strings.check_count(values, element_count(shape))
    array = np.array(values, _TYPED_DTYPES.get(field, WIRE[datatype]))
    narrow = array.astype(WIRE[datatype], copy=False)
    if narrow is not array and (narrow != array).any():
        raise ValueError(f"a value is out of the range of {datatype}")
    return narrow.reshape(shape)


def _check_field(contents: pb.InferTensorContents, field: str, datatype: str) -> None:
    if others := [other.name for other, _ in contents.ListFields() if other.name != field]:
        raise ValueError(f"elements of {datatype} are in {', '.join(others)}, expected {field}")
