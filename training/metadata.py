"""What a model file says about itself: the values of its `featurelens.*` metadata."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from training.data import CLASSES, SIDE
from training.settings import flat

if TYPE_CHECKING:
    from training.settings import Settings
    from training.train import Run

LABELS = [str(digit) for digit in range(CLASSES)]

# How a picture becomes an input: find the ink, scale it into a box of 20x20, center it by its center of mass,
# pad. The recipe of the MNIST paper, with the two more pixels of border that LeNet's input has.
PREPROCESSING = {
    "kind": "ink",
    "channels": 1,
    "height": SIDE,
    "width": SIDE,
    "box": 20,
    "background": 0.0,
    "ink": 1.0,
}


def versions() -> dict[str, str]:
    """Return the versions of what decides the numbers in the file."""
    packages = ("torch", "numpy", "onnx", "onnxscript", "onnxruntime")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def command(settings: Settings) -> str:
    """Return the command line that trains this model again, with every setting spelled out."""
    flags = [f"--{name.replace('_', '-')} {value}" for name, value in flat(settings).items()]
    return " ".join(["python -m training train", *flags])


def describe(run: Run, dataset: str, *, test_images: int, test_errors: int) -> dict[str, Any]:
    """Return the metadata, by key without the prefix; the layer table is the export's to add."""
    return {
        "labels": LABELS,
        "preprocessing": PREPROCESSING,
        "dataset": {"name": dataset, "train_images": run.images},
        "metrics": {
            "test_images": test_images,
            "test_errors": test_errors,
            "test_error_percent": round(100 * test_errors / test_images, 4),
            "epochs": len(run.history),
            "parameters": sum(parameter.numel() for parameter in run.model.parameters()),
        },
        "seed": run.settings.seed,
        "command": command(run.settings),
        "versions": versions(),
    }
