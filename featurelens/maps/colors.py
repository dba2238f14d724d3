"""Numbers to colors: one scale per layer, zero always near white, positive red, negative blue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Rgb = npt.NDArray[np.uint8]

# RdBu with 11 classes, from https://colorbrewer2.org by Cynthia A. Brewer, The Pennsylvania State University
# (Apache-2.0): made for values on both sides of a meaningful zero, and safe for colorblind readers.
_RED_BLUE = np.array(
    [
        (5, 48, 97),
        (33, 102, 172),
        (67, 147, 195),
        (146, 197, 222),
        (209, 229, 240),
        (247, 247, 247),
        (253, 219, 199),
        (244, 165, 130),
        (214, 96, 77),
        (178, 24, 43),
        (103, 0, 31),
    ]
)
# Its red half alone is sequential, light to dark, and gives relu1 the colors that its values have in conv1.
_REDS = _RED_BLUE[5:]
_NOT_FINITE = (128, 128, 128)


@dataclass(frozen=True)
class Scale:
    """What color stands for what number: from `low`, which is 0 or -high, to `high`."""

    low: float
    high: float

    @classmethod
    def of(cls, values: Numbers) -> Scale:
        """Return the scale of a layer: symmetric if any value is negative, else from 0; inf and NaN aside."""
        finite = values[np.isfinite(values)]
        high = float(np.abs(finite).max(initial=0.0)) or 1.0
        return cls(-high if finite.min(initial=0.0) < 0 else 0.0, high)

    def colors(self, values: Numbers) -> Rgb:
        """Return the colors [..., 3] of values [...]; grey where a value is not finite."""
        anchors = _RED_BLUE if self.low < 0 else _REDS
        share = (np.nan_to_num(values, posinf=self.high, neginf=self.low) - self.low) / (self.high - self.low)
        places = np.linspace(0, 1, len(anchors))
        rgb = np.stack([np.interp(share, places, channel) for channel in anchors.T], axis=-1)
        rgb[~np.isfinite(values)] = _NOT_FINITE
        return rgb.round().astype(np.uint8)

    def ticks(self) -> list[float]:
        """Return the numbers that a legend shows, highest first."""
        return [self.high, 0.0, self.low] if self.low < 0 else [self.high, 0.0]
