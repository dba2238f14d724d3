"""The protocol's names of element types, and what numpy calls them."""

from __future__ import annotations

import numpy as np

BYTES = "BYTES"
"""Texts; in a request for an input of numbers, image files."""
BF16 = "BF16"
"""Taken where float32 is expected, of which it is the upper half; the engine hands none over."""

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
_NAMES = {dtype.newbyteorder("="): name for name, dtype in WIRE.items()}


def datatype_of(dtype: np.dtype[np.generic] | None) -> str:
    """Name a numpy type; "" if it isn't known, or is one that the protocol has no name for."""
    if dtype is None:
        return ""
    return BYTES if dtype.kind in "OSU" else _NAMES.get(dtype, "")
