"""How far what was served is from what ONNX Runtime computes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tests.foreign.model import Array

# Most that an element may be off, as a share of the largest of its tensor, or of _SMALL if all are smaller.
# The server's sessions fuse operators, which sums in another order (float32), or rounds elsewhere (float16).
# A quantized value between two steps may go to the other one, and the layers behind amplify it.
TOLERANCES = {"float32": 1e-4, "float16": 2e-2, "quantized": 0.15}
_SMALL = 0.1


class Differences:
    """Collects the largest difference, and whatever is wrong."""

    def __init__(self, precision: str) -> None:
        self._tolerance = TOLERANCES[precision]
        self.largest = 0.0
        self.wrong: dict[str, str] = {}

    def add(self, what: str, served: Mapping[str, Array], expected: Mapping[str, Array]) -> None:
        """Compare tensors by name; all of `expected` must be there."""
        for name, array in expected.items():
            if name not in served:
                self._note(name, f"{what}: missing")
            else:
                self._compare(what, name, served[name], array)

    def _compare(self, what: str, name: str, served: Array, expected: Array) -> None:
        if served.shape != expected.shape:
            self._note(name, f"{what}: shape {list(served.shape)}, expected {list(expected.shape)}")
        elif expected.dtype.kind not in "fiub":
            if not np.array_equal(served, expected):
                self._note(name, f"{what}: other texts")
        elif (difference := _difference(served, expected)) > self._tolerance:
            self._note(name, f"{what}: off by {difference:.2g} of the largest element")
        else:
            self.largest = max(self.largest, difference)

    def _note(self, name: str, problem: str) -> None:
        self.wrong.setdefault(name, problem)


def _difference(served: Array, expected: Array) -> float:
    """Return max |a - b| / max(|b|, _SMALL) over the finite elements; infinite if the others differ."""
    one, other = served.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(other)
    if not np.array_equal(one[~finite], other[~finite], equal_nan=True) or not np.isfinite(one[finite]).all():
        return math.inf
    if not finite.any():
        return 0.0
    off = float(np.abs(one[finite] - other[finite]).max())
    return off / max(float(np.abs(other[finite]).max()), _SMALL) if off else 0.0
