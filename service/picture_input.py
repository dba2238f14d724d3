"""Completes what is said of a model's preprocessing by what its input declares, and finds contradictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError

from service.errors import ModelLoadError
from service.preprocessing import DataType, Preprocessing, problems_of
from service.presets import USUAL_SIDE, preset
from service.tensors import Shape, TensorSpec

Keys = dict[str, Any]

_CHANNELS = (1, 3, 4)
_LEVELS: Keys = {"scale": 1.0, "mean": (0.0,), "std": (1.0,)}
_SIZES = {"C": "channels", "H": "height", "W": "width"}
_NO_PICTURES = 'write kind = "none" under [preprocessing] of config.toml'


@dataclass(frozen=True, slots=True)
class Told:
    """What one place says of a model's preprocessing, and which place that is."""

    keys: Preprocessing
    source: str


def preprocessing_for(spec: TensorSpec, *told: Told) -> Preprocessing:
    """Complete what is said of how pictures become an input.

    A key of the first place stands above that of the next. What none of them says is taken from the input,
    where it is fixed, and then from the preset.

    Args:
        spec: the input.
        told: the places; none: the model takes tensors only.

    Raises:
        ModelLoadError: it contradicts the input, itself, or leaves something open.
    """
    keys: Keys = {}
    for place in reversed(told):
        keys |= place.keys.model_dump(exclude_unset=True)
    if not told or keys.get("kind") == "none":
        return Preprocessing(kind="none")
    source = " and ".join(place.source for place in told)
    _check_scales(told)
    _check_rank(spec)
    name = keys.get("preset")
    keys.setdefault("layout", _layout(spec.shape))
    keys |= {**_sizes(spec, keys, 3 if name else None), **keys}
    missing = [key for key in ("height", "width") if not keys.get(key)]
    if missing:
        lines = ", ".join(f"{key} = {USUAL_SIDE}" for key in missing)
        raise ModelLoadError(
            f"the {shown(spec)} is of any {' and '.join(missing)}, and {source} has none: "
            f"write {lines}, or another, under [preprocessing] of config.toml"
        )
    if name:
        keys = _over(dict(preset(name, keys["height"], keys["width"])), keys)
    keys = _of_type(spec, keys, told[0].keys.model_fields_set)
    return _checked(spec, keys, source, {key for place in told for key in place.keys.model_fields_set})


def shown(spec: TensorSpec) -> str:
    """Name an input and its shape for people."""
    if spec.shape is None:
        return f'input "{spec.name}"'
    sizes = ("any" if size is None else str(size) for size in (None, *spec.shape[1:]))
    return f'input "{spec.name}" [{", ".join(sizes).replace("any", "N", 1)}]'


def _over(below: Keys, above: Keys) -> Keys:
    """Put keys over others; crop_pct and resize_size say the same, so one takes the other's place."""
    if "crop_pct" in above:
        below.pop("resize_size", None)
    return below | above


def _check_scales(told: tuple[Told, ...]) -> None:
    """Check that a size in one place isn't meant for the input of another."""
    if len(told) < 2:
        return
    above, below = told[0].keys, told[1].keys
    resized = {"height", "width"} & above.model_fields_set
    known = {"resize_size", "crop_pct"} & above.model_fields_set
    if resized and not known and below.resize_size is not None:
        raise ModelLoadError(
            f"{told[1].source} has the resize_size {below.resize_size} for {below.height}x{below.width}, and "
            f"{told[0].source} another {min(resized)}: write resize_size too"
        )


def _check_rank(spec: TensorSpec) -> None:
    if spec.shape is not None and len(spec.shape) not in (3, 4):
        raise ModelLoadError(
            f"the {shown(spec)} is not one of pictures, which has 3 or 4 axes: {_NO_PICTURES}"
        )


def _layout(shape: Shape | None) -> str:
    """Tell which axis holds the channels: the one of 1, 3 or 4, the first of two."""
    if shape is None:
        return "NCHW"
    if len(shape) == 3:
        return "NHW"
    return "NHWC" if shape[3] in _CHANNELS and shape[1] not in _CHANNELS else "NCHW"


def _sizes(spec: TensorSpec, keys: Mapping[str, Any], channels: int | None) -> Keys:
    """Take from the input, or the preset, what isn't said of its sizes."""
    layout = keys["layout"]
    sizes: Keys = {"channels": channels or max(len(keys.get("mean", ())), 1)}
    if keys.get("preset"):
        sizes |= {"height": USUAL_SIDE, "width": USUAL_SIDE}
    if spec.shape is None or len(spec.shape) != len(layout):
        return sizes
    if layout == "NHW":
        sizes["channels"] = 1
    for axis, size in zip(layout[1:], spec.shape[1:], strict=True):
        if size is not None:
            sizes[_SIZES[axis]] = size
    return sizes


def _of_type(spec: TensorSpec, keys: Keys, written: set[str]) -> Keys:
    """Add the type of the elements, and what follows of it."""
    dtype = "float32" if spec.dtype is None else spec.dtype.name
    if dtype not in get_args(DataType):
        raise ModelLoadError(
            f"the {shown(spec)} is {dtype}; pictures are made for {', '.join(get_args(DataType))}: "
            f"{_NO_PICTURES}"
        )
    keys = {"dtype": dtype, **keys}
    if dtype != "uint8" or keys.get("dtype") != dtype:
        return keys
    if keys.get("kind") == "ink":
        return {"background": 0.0, "ink": 255.0, **keys}
    for key in _LEVELS.keys() & written:
        if set(map(float, keys[key] if isinstance(keys[key], tuple) else (keys[key],))) != {
            float(_LEVELS[key][0] if isinstance(_LEVELS[key], tuple) else _LEVELS[key])
        }:
            raise ModelLoadError(
                f"the {shown(spec)} takes the levels 0 to 255 as they are: leave {key} out of config.toml"
            )
    return keys | _LEVELS


def _checked(spec: TensorSpec, keys: Keys, source: str, written: set[str]) -> Preprocessing:
    if keys["channels"] not in _CHANNELS:
        raise ModelLoadError(
            f"the {shown(spec)} has {keys['channels']} channels; pictures have 1, 3 or 4: {_NO_PICTURES}"
        )
    try:
        complete = Preprocessing.model_validate({"kind": "resize", **keys})
    except ValidationError as error:
        raise ModelLoadError(f"{source}: preprocessing: {problems_of(error)}") from error
    if problem := _problem(complete):
        raise ModelLoadError(f"{source}: preprocessing: {problem}")
    if contradiction := _contradiction(spec, complete, written):
        raise ModelLoadError(f"the {shown(spec)} is {contradiction.replace('SOURCE', source)}")
    return complete


def _problem(keys: Preprocessing) -> str:
    """Tell what can't be in what is said, whatever the input is; "" if nothing."""
    channels = keys.channels
    if keys.kind == "ink":
        if channels == 4:
            return "channels must be 1 or 3 for ink"
        if not 1 <= keys.box <= min(keys.height, keys.width):
            return f"a box of {keys.box} does not fit into {keys.height}x{keys.width}"
        return ""
    for name, values in (("mean", keys.mean), ("std", keys.std), ("fill", keys.fill)):
        if len(values) not in (1, channels):
            return f"{name} must have 1 value or {channels}, one for each channel, not {len(values)}"
    if keys.layout == "NHW" and channels != 1:
        return 'the layout "NHW" is for channels = 1'
    if keys.color == "BGR" and channels == 1:
        return 'color = "BGR" is for channels = 3 or 4'
    return ""


def _contradiction(spec: TensorSpec, keys: Preprocessing, written: set[str]) -> str:
    """Tell what the input is that the preprocessing doesn't make, and what mends it; "" if it does."""
    if spec.dtype is not None and keys.dtype != spec.dtype.name:
        return (
            f'{spec.dtype.name}; SOURCE makes {keys.dtype}: write dtype = "{spec.dtype.name}" or leave it out'
        )
    if spec.shape is None or _fits(keys.item_shape, spec.shape):
        return ""
    made = f"not what SOURCE makes, [{', '.join(map(str, keys.item_shape))}]"
    return f"{made}: write {_mend(spec.shape, keys, written)} under [preprocessing] of config.toml"


def _mend(shape: Shape, keys: Preprocessing, written: set[str]) -> str:
    """Return the lines that make the preprocessing one of the shape; what isn't written follows by itself."""
    layout = keys.layout
    if len(layout) != len(shape) or layout != _layout(shape):
        layout = _layout(shape)  # type: ignore[assignment]  # one of the three
    lines = [f'layout = "{layout}"'] if layout != keys.layout else []
    for axis, size in zip(layout[1:], shape[1:], strict=True):
        key = _SIZES[axis]
        if key in written and size not in (None, getattr(keys, key)):
            lines.append(f"{key} = {size}")
    return " and ".join(lines)


def _fits(made: tuple[int, ...], shape: Shape) -> bool:
    return len(made) == len(shape) - 1 and all(
        wanted in (None, size) for size, wanted in zip(made, shape[1:], strict=True)
    )
