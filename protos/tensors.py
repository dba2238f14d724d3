"""Packs numpy arrays into the contract's Tensor and back: the one pair that client and server share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from protos.featurelens.v1.classifier_pb2 import DataType, Tensor

# The wire is little-endian on any host.
DTYPES: dict[DataType.ValueType, np.dtype[np.generic]] = {
    DataType.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    DataType.DATA_TYPE_FLOAT64: np.dtype("<f8"),
    DataType.DATA_TYPE_FLOAT16: np.dtype("<f2"),
    DataType.DATA_TYPE_INT8: np.dtype("<i1"),
    DataType.DATA_TYPE_INT16: np.dtype("<i2"),
    DataType.DATA_TYPE_INT32: np.dtype("<i4"),
    DataType.DATA_TYPE_INT64: np.dtype("<i8"),
    DataType.DATA_TYPE_UINT8: np.dtype("<u1"),
    DataType.DATA_TYPE_UINT16: np.dtype("<u2"),
    DataType.DATA_TYPE_UINT32: np.dtype("<u4"),
    DataType.DATA_TYPE_UINT64: np.dtype("<u8"),
    DataType.DATA_TYPE_BOOL: np.dtype("?"),
}
_DATA_TYPES = {dtype: data_type for data_type, dtype in DTYPES.items()}
_MAX_AXES = 64  # numpy's NPY_MAXDIMS, https://numpy.org/doc/stable/reference/c-api/array.html
_MAX_ELEMENTS = 2**56  # far above any message, below where numpy's own size arithmetic overflows


def dtype_of(data_type: DataType.ValueType) -> np.dtype[np.generic]:
    """Return the numpy type of a DataType; an unset one is float32.

    Raises:
        ValueError: the number is not in the enum, as from a newer client.
    """
    try:
        return DTYPES[data_type or DataType.DATA_TYPE_FLOAT32]
    except KeyError:
        raise ValueError(
            f"data_type {int(data_type)} is unknown, expected one of {', '.join(DataType.keys()[1:])}"
        ) from None


def data_type_of(dtype: npt.DTypeLike) -> DataType.ValueType:
    """Return the DataType of a numpy type of either byte order.

    Raises:
        ValueError: the contract has no such type.
    """
    wanted = np.dtype(dtype)
    try:
        return _DATA_TYPES[wanted.newbyteorder("<")]
    except KeyError:
        names = ", ".join(known.name for known in DTYPES.values())
        raise ValueError(f"dtype {wanted} can't be sent, expected one of {names}") from None


def pack(array: npt.NDArray[np.generic], name: str = "") -> Tensor:
    """Pack an array of any memory layout and byte order.

    Raises:
        ValueError: the contract has no such dtype.
    """
    data_type = data_type_of(array.dtype)
    data = array.astype(DTYPES[data_type], copy=False).tobytes("C")
    return Tensor(name=name, shape=array.shape, data_type=data_type, data=data)


def unpack(tensor: Tensor) -> npt.NDArray[np.generic]:
    """Return the elements as a read-only array that shares the message's bytes.

    Raises:
        ValueError: shape, type and bytes don't agree; the message says what came and what was expected.
    """
    return view(tensor.data, tuple(tensor.shape), dtype_of(tensor.data_type))


def view(data: bytes, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> npt.NDArray[np.generic]:
    """Return bytes in C order as a read-only array that shares them.

    Raises:
        ValueError: shape, type and bytes don't agree; the message says what came and what was expected.
    """
    expected = element_count(shape) * dtype.itemsize
    if len(data) != expected:
        raise ValueError(
            f"data has {len(data)} bytes, expected {expected} for shape {list(shape)} of {dtype.name}"
        )
    if dtype.kind == "b" and data.translate(None, b"\x00\x01"):
        raise ValueError("data of a bool tensor has bytes other than 0 and 1")
    return np.ndarray(shape, dtype, buffer=data)


def element_count(shape: Sequence[int]) -> int:
    """Return how many elements a tensor of this shape has; Python ints: a hostile shape can't overflow them.

    Raises:
        ValueError: no tensor has this shape.
    """
    if len(shape) > _MAX_AXES:
        raise ValueError(f"shape has {len(shape)} axes, expected at most {_MAX_AXES}")
    if min(shape, default=0) < 0:
        raise ValueError(f"shape is {list(shape)}, expected no negative size")
    count = math.prod(shape)
    if (count or math.prod(size or 1 for size in shape)) > _MAX_ELEMENTS:
        raise ValueError(f"shape is {list(shape)}, expected at most {_MAX_ELEMENTS} elements")
    return count
