"""What a run gave each image: rows of what follows the batch, and whole tensors of what doesn't."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from service.errors import InternalError, InvalidRequestError
from service.job import Arrays, Result
from service.model import Model


class PerImage(NamedTuple):
    """Tensors by name.

    Attributes:
        rows: of those that follow the batch, axis 0 the image.
        alone: of the others, one whole tensor an image, of a run of that image alone.
    """

    rows: Mapping[str, np.ndarray]
    alone: Mapping[str, Sequence[np.ndarray]]


def must_run_alone(model: Model, output: str, layers: Sequence[str], images: int) -> bool:
    """Tell whether each image has to be run by itself to know what these are for it alone.

    Raises:
        InvalidRequestError: a layer can't be told for an image: the model doesn't run on one.
    """
    if model.batches((output, *layers)):
        return False
    if model.runs_single_items or images == 1:
        return True
    if others := [layer for layer in layers if layer not in model.rows.following]:
        why = f"it runs on {model.fixed_batch} images" if model.fixed_batch else "it showed no batch at load"
        raise InvalidRequestError(
            f'the layer "{others[0]}" has no row for each image, and the model can\'t run on one image '
            f"alone: {why}; ask the Open Inference Protocol, which returns the layer of the whole batch"
        )
    return False


def per_image(
    result: Result, images: int, output: str, layers: Collection[str], following: Collection[str]
) -> PerImage:
    """Tell for each image what a run gave it.

    Args:
        result: of one run of all, or of one run an image.
        images: how many there are.
        output: the name of the output with the classes, of which rows are wanted in any case.
        layers: names of the layers that are wanted.
        following: names of all that follow the batch.

    Raises:
        InternalError: what was to follow the batch didn't in this run.
    """
    runs = result.items or (result.outputs,)
    rows = {name: _rows(runs, name) for name in dict.fromkeys((output, *layers)) if name in following}
    if output not in following:
        rows[output] = _rows(runs, output)
    is_whole = len(runs) < images and output not in following
    if not is_whole and any(array.shape[:1] != (images,) for array in rows.values()):
        raise InternalError("the outputs don't follow the batch")
    return PerImage(rows, {name: [run[name] for run in runs] for name in layers if name not in following})


def _rows(runs: Sequence[Arrays], name: str) -> np.ndarray:
    return np.concatenate([run[name] for run in runs]) if len(runs) > 1 else runs[0][name]
