"""How the models of a library are mostly trained to see pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
USUAL_SIDE = 224

Keys = Mapping[str, object]


def preset(name: str, height: int, width: int) -> Keys:
    """Return the keys of a preset for an input of this size."""
    return _PRESETS[name](height, width)


def _torchvision(height: int, width: int) -> Keys:
    """`torchvision.transforms._presets.ImageClassification`: 256 for 224, and as much more for others."""
    return {
        "resize": "shorter-side",
        "resize_size": round(min(height, width) * 256 / 224),
        "interpolation": "bilinear",
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
    }


def _timm(height: int, width: int) -> Keys:
    """`timm.data.create_transform` with timm's usual `pretrained_cfg`."""
    return {
        "resize": "shorter-side",
        "resize_size": (math.floor(height / 0.875), math.floor(width / 0.875)),
        "interpolation": "bicubic",
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
    }


def _hugging_face(height: int, width: int) -> Keys:
    """`transformers.ViTImageProcessor` as it is without a file."""
    return {
        "resize": "stretch",
        "resize_size": (height, width),
        "center": "floor",
        "interpolation": "bilinear",
        "mean": HALF,
        "std": HALF,
    }


_PRESETS: Mapping[str, Callable[[int, int], Keys]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "huggingface": _hugging_face,
}
