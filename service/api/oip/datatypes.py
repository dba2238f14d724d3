"""The protocol's names of element types, and what numpy calls them."""

from __future__ import annotations

import numpy as np

from service.tensors import TensorSpec

BYTES = "BYTES"
"""Texts; in a request for an input of numbers, image files."""
BF16 = "BF16"
"""The upper half of a float32, which stands for it inside the engine."""

# The wire is little-endian on any host.
WIRE: dict[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
# Of an answer's elements. numpy has no number of this type, and a field is no number.
ANSWER_WIRE = {**WIRE, BF16: np.dtype([("bfloat16", "<u2")])}
_NAMES = {dtype.newbyteorder("="): name for name, dtype in ANSWER_WIRE.items()}


def datatype_of(dtype: np.dtype[np.generic] | None) -> str:
    """Name a numpy type; "" if it isn't known, or is one that the protocol has no name for."""
    if dtype is None:
        return ""
    return BYTES if dtype.kind in "OSU" else _NAMES.get(dtype, "")


def datatype(spec: TensorSpec) -> str:
    """Name the type of an input, output or layer as it comes and goes; "" as for `datatype_of`."""
    return BF16 if spec.bfloat16 else datatype_of(spec.dtype)


def narrowed(array: np.ndarray) -> np.ndarray:
    """Make bfloat16 of the float32 that stands for it, and so has nothing in its lower half."""
    return np.asarray(array.view(np.uint32) >> 16, np.uint16).view(ANSWER_WIRE[BF16])
