"""Reads Hugging Face's preprocessor_config.json as its image processors with Pillow take it.

The names, and the values of keys that are left out, are those of transformers' `image_processing_pil_*.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.presets import HALF, IMAGENET_MEAN, IMAGENET_STD

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# PIL.Image.Resampling
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a processor does where its file is silent."""

    size: int
    square: bool = True
    """Whether a size that is one number is that of both sides, else that of the shorter."""
    crop: int = 224
    do_crop: bool = False
    resample: int = 3
    mean: tuple[float, ...] = HALF
    std: tuple[float, ...] = HALF
    normalize: bool = True
    flip: bool = False


_CLIP = _Kind(224, square=False, do_crop=True, mean=_CLIP_MEAN, std=_CLIP_STD)
_MOBILENET = _Kind(256, square=False, do_crop=True, resample=2)
_KINDS = {
    "ViT": _Kind(224, resample=2),
    "DeiT": _Kind(256, do_crop=True),
    "Beit": _Kind(224),
    "Pvt": _Kind(224, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "Siglip": _Kind(224),
    "Blip": _Kind(384, mean=_CLIP_MEAN, std=_CLIP_STD),
    "ConvNext": _Kind(384, square=False),
    "EfficientNet": _Kind(346, crop=289),
    "MobileNetV1": _MOBILENET,
    "MobileNetV2": _MOBILENET,
    "MobileViT": _Kind(224, square=False, crop=256, do_crop=True, normalize=False, flip=True),
    "CLIP": _CLIP,
    "ChineseCLIP": _CLIP,
    "Bit": _CLIP,
    "Levit": _Kind(224, square=False, do_crop=True, mean=IMAGENET_MEAN, std=IMAGENET_STD),
    "PoolFormer": _Kind(224, square=False, do_crop=True, mean=IMAGENET_MEAN, std=IMAGENET_STD),
}
_READ = {
    *("crop_pct", "crop_size", "do_center_crop", "do_flip_channel_order", "do_normalize", "do_rescale"),
    *("do_resize", "image_mean", "image_std", "include_top", "resample", "rescale_factor", "rescale_offset"),
    *("size", "do_convert_rgb", "feature_extractor_type", "image_processor_type"),
}
# What changes no pixel of a picture to be classified: where and how the processor runs.
_WITHOUT_EFFECT = {
    *("processor_class", "data_format", "input_data_format", "device", "return_tensors", "default_to_square"),
    *("disable_grouping", "do_reduce_labels", "reduce_labels", "model_input_names", "auto_map", "backend"),
    *("image_seq_length", "_valid_processor_keys", "transformers_version", "pad_size", "size_divisor"),
}


def hugging_face_keys(told: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a file of Hugging Face's says, as keys of Preprocessing.

    Raises:
        ValueError: it is of a processor that isn't known, or says what can't be done.
    """
    name = _name(told)
    if name not in _KINDS:
        known = ", ".join(f"{kind}ImageProcessor" for kind in _KINDS)
        raise ValueError(f"the image processor {_type(told)!r} is not one of {known}")
    unknown = sorted(key for key in told.keys() - _READ - _WITHOUT_EFFECT if told[key])
    if unknown:
        raise ValueError(f"{', '.join(unknown)} can't be done")
    if told.get("do_resize") is False:
        raise ValueError("do_resize = false, pictures of any size, can't be done")
    kind = _KINDS[name]
    return {
        "channels": 3,
        "center": "floor",
        "color": "BGR" if _told(told, "do_flip_channel_order", kind.flip) else "RGB",
        "interpolation": _FILTERS[_told(told, "resample", kind.resample)],
        **_geometry(name, kind, told),
        **_values(name, kind, told),
    }


def _type(told: Mapping[str, Any]) -> str:
    return str(told.get("image_processor_type") or told.get("feature_extractor_type") or "")


def _name(told: Mapping[str, Any]) -> str:
    name = _type(told).removesuffix("Fast").removesuffix("Pil")
    return name.removesuffix("ImageProcessor").removesuffix("FeatureExtractor")


def _told(told: Mapping[str, Any], key: str, usual: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    value = told.get(key)
    return usual if value is None else value


def _geometry(name: str, kind: _Kind, told: Mapping[str, Any]) -> Mapping[str, Any]:
    size, shorter = _size(told.get("size"), kind.size, square=kind.square)
    crop = None
    if _told(told, "do_center_crop", kind.do_crop):
        crop, _ = _size(told.get("crop_size"), kind.crop, square=True)
    if name == "ConvNext":
        if not shorter or crop:
            raise ValueError("ConvNextImageProcessor takes a size of shortest_edge, and no do_center_crop")
        side = size[0]
        if side >= 384:
            return _resized("stretch", size, size)
        return _resized("shorter-side", int(side / (_told(told, "crop_pct", 224 / 256))), size)
    if name == "PoolFormer":
        size, shorter = _poolformer(size, told.get("crop_pct", 0.9), shorter=shorter)
    if name == "Levit" and shorter:
        size = (int((256 / 224) * size[0]),) * 2
    if shorter:
        if crop is None:
            raise ValueError("a size of shortest_edge without do_center_crop leaves the input's size open")
        return _resized("shorter-side", size[0], crop)
    return _resized("stretch", size, crop or size)


def _poolformer(size: tuple[int, int], part: float | None, *, shorter: bool) -> tuple[tuple[int, int], bool]:
    if part is None:
        return size, shorter
    scaled = int(size[0] / part), int(size[1] / part)
    return scaled, shorter or size[0] == size[1]


def _resized(how: str, size: int | tuple[int, int], to: tuple[int, int]) -> Mapping[str, Any]:
    return {"resize": how, "resize_size": size, "height": to[0], "width": to[1]}


def _size(told: object, usual: int, *, square: bool) -> tuple[tuple[int, int], bool]:
    """Read a size: its height and width, and whether it is that of the shorter side."""
    match told:
        case None:
            return (usual, usual), not square
        case int():
            return (told, told), not square
        case [int() as height, int() as width]:
            return (height, width), False
        case {"height": int() as height, "width": int() as width}:
            return (height, width), False
        case {"shortest_edge": int() as edge, **others} if not any(others.values()):
            return (edge, edge), True
    raise ValueError(f"a size of {told} can't be done")


def _values(name: str, kind: _Kind, told: Mapping[str, Any]) -> Mapping[str, Any]:
    rescale = _told(told, "do_rescale", True)
    scale = _told(told, "rescale_factor", 1 / 255) if rescale else 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    told_std = _three(_told(told, "image_std", kind.std))
    if _told(told, "do_normalize", kind.normalize):
        mean, std = _three(_told(told, "image_mean", kind.mean)), told_std
    if name == "EfficientNet":
        if rescale and told.get("rescale_offset"):
            mean = tuple(value + 1 for value in mean)
        if _told(told, "include_top", True):
            std = tuple(one * other for one, other in zip(std, told_std, strict=True))
    return {"scale": scale, "mean": mean, "std": std}


def _three(values: float | list[float] | tuple[float, ...]) -> tuple[float, ...]:
    return (float(values),) * 3 if isinstance(values, int | float) else tuple(values)
