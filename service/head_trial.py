"""A trial run of a model at load: what its outputs hold for several random, plausible items."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from random import Random

import numpy as np

from service.device import ending_within
from service.model import RUN_ERRORS, Model
from service.preprocessing import Preprocessing
from service.tensors import Array, Shape, TensorSpec

ITEMS = 5
"""How many are tried: that so many rows of other values sum to 1 is no accident."""
_SIZES = (96, 32, 224, 3)
"""What is tried for axes of any size that preprocessing doesn't tell, until the model takes it. At small ones
an axis of places or of time may have one element by accident."""
_SPANS = ((-2.0, 2.0), (0.0, 1.0))
"""Of floating-point inputs: normalized values first, then those without a sign, which logarithms need."""

Constants = Mapping[str, Array]


def trial_values(
    model: Model, outputs: Sequence[str], preprocessing: Preprocessing, constants: Constants
) -> Mapping[str, Sequence[Array]]:
    """Run a model on ITEMS items, and return what each run gave of each output.

    One run takes all, unless the batch is fixed. Nothing is returned if no runs gave finite values.

    Args:
        model: The model.
        outputs: Names of declared outputs.
        preprocessing: Tells the size of pictures where the input takes any.
        constants: The values of inputs that are the same every time, for ITEMS items.

    Raises:
        ModelLoadError: The runs went on until they were stopped.
    """
    with ending_within(model.trial_timeout_s) as options:
        for trial in _trials(model.inputs, preprocessing, constants):
            try:
                runs = [model.compute(feeds, outputs, options) for feeds in trial]
            except RUN_ERRORS:  # these sizes or values are not what it takes
                continue
            if all(map(_is_finite, runs)):
                return dict(zip(outputs, zip(*runs, strict=True), strict=True))
    return {}


def _is_finite(arrays: Sequence[Array]) -> bool:
    return all(array.dtype.kind != "f" or bool(np.isfinite(array).all()) for array in arrays)


def _trials(
    inputs: Sequence[TensorSpec], preprocessing: Preprocessing, constants: Constants
) -> Iterator[Sequence[dict[str, Array]]]:
    """Make feeds for the runs of one trial after the other."""
    drawn = [spec for spec in inputs if spec.name not in constants]
    shapes = {spec.name: _sized(spec.shape or (), preprocessing) for spec in drawn}
    batch = min((shape[0] or 1 for shape in shapes.values() if shape), default=ITEMS)
    any_free = any(None in shape for shape in shapes.values())
    for size in _SIZES if any_free else _SIZES[:1]:
        for span in _SPANS:
            generator = Random(0)  # noqa: S311 - no secret is made of it
            yield [
                {spec.name: _drawn(spec, shapes[spec.name], size, span, generator) for spec in drawn}
                | dict(constants)
                for _ in range(math.ceil(ITEMS / batch))
            ]


def _sized(shape: Shape, preprocessing: Preprocessing) -> Shape:
    """Fill in the sizes that are known: of the batch, and of pictures."""
    batch = tuple(ITEMS if size is None else size for size in shape[:1])
    if preprocessing.kind == "none" or len(shape) != 4:
        return batch + shape[1:]
    height, width, channels = preprocessing.height, preprocessing.width, preprocessing.channels
    known = (height, width, channels) if preprocessing.layout == "NHWC" else (channels, height, width)
    return batch + tuple(size or told for size, told in zip(shape[1:], known, strict=True))


def _drawn(spec: TensorSpec, shape: Shape, size: int, span: tuple[float, float], generator: Random) -> Array:
    sizes = [size if wanted is None else wanted for wanted in shape]
    fractions = _fractions(sizes, generator)
    if spec.dtype is None or spec.dtype.kind in "fc":
        low, high = span
        return (low + (high - low) * fractions).astype(spec.dtype or np.float32)
    if spec.dtype == np.uint8:  # levels of a picture
        return (256 * fractions).astype(np.uint8)
    if spec.dtype == np.dtype(bool):
        return fractions < 0.5
    return (1 + (fractions < 0.5)).astype(str).astype(spec.dtype)  # 1 or 2: small vocabularies have them


def _fractions(shape: Sequence[int], generator: Random) -> Array:
    """Draw from [0, 1). numpy's generators would do, but take 2 MB to load."""
    drawn = np.frombuffer(generator.randbytes(4 * math.prod(shape)), np.uint32)
    return (drawn / 2**32).reshape(shape)
