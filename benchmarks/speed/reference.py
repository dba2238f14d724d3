"""What the answers must be: ONNX Runtime alone, on the same file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.speed.digits import ROOT, Images

MODEL = ROOT / "models" / "lenet" / "1" / "model.onnx"
INPUT = "image"
OUTPUT = "probabilities"
LAYERS = (
    "conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "fc1", "relu3", "fc2", "relu4", "logits", OUTPUT
)  # fmt: skip
# A batch of another size takes other kernels, which add up in another order.
_TOLERANCE = 1e-4

Tensors = Mapping[str, NDArray[np.float32]]


class WrongAnswerError(Exception):
    """A server answered, and not what the model gives; the message says what."""


def expected(images: Images, layers: Sequence[str]) -> Tensors:
    """Return the probabilities and the feature maps of `layers`, by name."""
    names = list(dict.fromkeys([OUTPUT, *layers]))
    return dict(zip(names, _session().run(names, {INPUT: images}), strict=True))


def compare(expected: Tensors, answered: Tensors) -> None:
    """Compare what came with what ONNX Runtime gives.

    Raises:
        WrongAnswerError: names, shapes or values differ.
    """
    if answered.keys() != expected.keys():
        raise WrongAnswerError(f"the answer holds {sorted(answered)}, expected {sorted(expected)}")
    for name, right in expected.items():
        came = answered[name]
        if came.shape != right.shape:
            raise WrongAnswerError(f"{name} has shape {list(came.shape)}, expected {list(right.shape)}")
        if not np.allclose(came, right, rtol=_TOLERANCE, atol=_TOLERANCE):
            raise WrongAnswerError(f"{name} is off by up to {np.abs(came - right).max():.3g}")


@cache
def _session() -> ort.InferenceSession:
    """Return a session whose outputs are all layers."""
    model = onnx.load(MODEL)
    for name in LAYERS[:-1]:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
