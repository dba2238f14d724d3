"""Imports torchvision, even if its compiled operators are for another build of torch than this one.

No model here uses these operators; torchvision asks for them when it is imported.
"""

from __future__ import annotations

import torch

try:
    import torchvision
except RuntimeError:
    for _operator in ("nms", "qnms"):
        torch.library.define(
            f"torchvision::{_operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        )
    import torchvision

__all__ = ["torchvision"]
