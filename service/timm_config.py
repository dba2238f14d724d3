"""Reads timm's config.json, and the `pretrained_cfg` in it, as `timm.data.create_transform` takes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.presets import IMAGENET_MEAN, IMAGENET_STD

_CROP_MODES = {"center": "shorter-side", "squash": "stretch", "border": "pad"}


def is_timm(told: Mapping[str, Any]) -> bool:
    """Tell whether a file is timm's; older ones have the keys of `pretrained_cfg` on top."""
    return isinstance(told.get("pretrained_cfg"), dict) or {"architecture", "input_size"} <= told.keys()


def timm_keys(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a file of timm's says, as keys of Preprocessing.

    Raises:
        ValueError: it says what can't be done.
    """
    cfg = told.get("pretrained_cfg", told)
    channels, height, width = cfg.get("test_input_size") or cfg.get("input_size") or (3, 224, 224)
    crop_mode = cfg.get("crop_mode") or "center"
    if crop_mode not in _CROP_MODES:
        raise ValueError(f"the crop_mode {crop_mode!r} is not one of {', '.join(_CROP_MODES)}")
    if cfg.get("crop_border_pixels"):
        raise ValueError("crop_border_pixels can't be done")
    mean = tuple(cfg.get("mean") or IMAGENET_MEAN)
    fill = {"fill": tuple(round(255 * value) for value in mean)} if crop_mode == "border" else {}
    return {
        "channels": channels,
        "height": height,
        "width": width,
        "resize": _CROP_MODES[crop_mode],
        "crop_pct": cfg.get("test_crop_pct") or cfg.get("crop_pct") or 0.875,
        "interpolation": cfg.get("interpolation") or "bicubic",
        "mean": mean,
        "std": tuple(cfg.get("std") or IMAGENET_STD),
        **fill,
    }


def labels_of(told: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of the classes in a config.json of timm or Hugging Face; None if there are none.

    Raises:
        ValueError: they aren't names, or not numbered from 0.
    """
    names = told.get("label_names")
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        described = told.get("label_descriptions")
        if isinstance(described, dict) and all(isinstance(described.get(name), str) for name in names):
            return tuple(described[name] for name in names)
        return tuple(names)
    by_id = told.get("id2label")
    if not isinstance(by_id, dict) or not by_id:
        return None
    try:
        return tuple(str(by_id[str(i)]) for i in range(len(by_id)))
    except KeyError as error:
        raise ValueError(f"id2label lacks the class {error.args[0]}") from None
