"""Run a network over a data set and count what it gets wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf, NoSuchFile

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from training.data import Digits

_BATCH = 500


class ModelFileError(Exception):
    """The file can't be run as a digit classifier."""


def as_input(images: NDArray[np.uint8]) -> Tensor:
    """Turn (N, 32, 32) uint8 into the network's (N, 1, 32, 32) float32, 0 = background, 1 = ink."""
    return torch.from_numpy(images).unsqueeze(1).float().div_(255)


@torch.inference_mode()
def predict(model: nn.Module, digits: Digits) -> NDArray[np.float32]:
    """Return the probabilities, (N, 10), of all images."""
    starts = range(0, len(digits), _BATCH)
    parts = [model(as_input(digits.images[start : start + _BATCH])) for start in starts]
    probabilities: NDArray[np.float32] = torch.cat(parts).numpy()
    return probabilities


def predict_onnx(path: Path, digits: Digits) -> NDArray[np.float32]:
    """Return the probabilities that ONNX Runtime computes from the file at `path`.

    Raises:
        ModelFileError: there is no such file, or it's no ONNX model that takes `image` to `probabilities`.
    """
    try:
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    except (Fail, InvalidGraph, InvalidProtobuf, NoSuchFile) as error:
        reason = "is not an ONNX model" if path.is_file() else "doesn't exist"
        raise ModelFileError(f"{path} {reason}") from error
    names = ([item.name for item in session.get_inputs()], [item.name for item in session.get_outputs()])
    if names != (["image"], ["probabilities"]):
        raise ModelFileError(f"{path} takes {names[0]} to {names[1]}, expected image to probabilities")
    starts = range(0, len(digits), _BATCH)
    batches = (as_input(digits.images[start : start + _BATCH]).numpy() for start in starts)
    return np.concatenate([session.run(["probabilities"], {"image": batch})[0] for batch in batches])


def count_errors(probabilities: NDArray[np.float32], digits: Digits) -> int:
    """Count the images whose most probable class isn't their label."""
    return int((probabilities.argmax(axis=1) != digits.labels).sum())
