"""Models that torch's two exporters write: torchvision's, timm's and small ones, with random weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from tests.foreign.model import ForeignModel, normal
from tests.foreign.vision import torchvision

_LEGACY = f"torch {torch.__version__.split('+')[0]}, TorchScript exporter"
_DYNAMO = f"torch {torch.__version__.split('+')[0]}, dynamo exporter"
_SIDE = 64
Shape = tuple[int, ...]
_PICTURE: Shape = (3, _SIDE, _SIDE)


class Recurrent(nn.Module):
    """Classifies a sequence by the last state of a recurrent layer, time on axis 1."""

    def __init__(self, kind: type[nn.GRU] | type[nn.LSTM]) -> None:
        super().__init__()
        self.cells = kind(8, 16, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Return log-probabilities [N, 5] of sequences [N, T, 8]."""
        states, _ = self.cells(x)
        return torch.log_softmax(self.fc(states[:, -1]), dim=1)


class MultiLabel(nn.Module):
    """A probability for each of 6 labels by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.fc = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        """Return probabilities [N, 6] of pictures [N, 3, H, W]."""
        return torch.sigmoid(self.fc(torch.relu(self.conv(x)).mean((2, 3))))


def models(folder: Path) -> Iterator[ForeignModel]:
    """Export the models into a folder, those that aren't there yet."""
    vision = torchvision.models
    picture = normal("image", *_PICTURE)
    yield ForeignModel(
        "resnet18_legacy", _LEGACY, _legacy(folder, "resnet18_legacy", vision.resnet18), picture, "logits"
    )
    yield ForeignModel(
        "resnet18_batch_1",
        _LEGACY,
        _legacy(folder, "resnet18_batch_1", vision.resnet18, free=False),
        picture,
        "logits",
        fixed_batch=1,
    )
    yield ForeignModel(
        "resnet18_external",
        _DYNAMO + ", weights beside",
        _dynamo(folder, "resnet18_external", vision.resnet18, external=True),
        picture,
        "logits",
    )
    yield ForeignModel(
        "mobilenet_v3_small",
        _DYNAMO,
        _dynamo(folder, "mobilenet_v3_small", vision.mobilenet_v3_small),
        picture,
        "logits",
    )
    yield ForeignModel("vit_tiny", _DYNAMO + ", timm", _dynamo(folder, "vit_tiny", _vit), picture, "logits")
    yield ForeignModel(
        "vit_legacy", _LEGACY + ", timm", _legacy(folder, "vit_legacy", _vit), picture, "logits"
    )
    sequence = normal("image", 12, 8)
    for kind in (nn.GRU, nn.LSTM):
        name = kind.__name__.lower()
        for way, maker, export in (("legacy", _LEGACY, _legacy), ("dynamo", _DYNAMO, _dynamo)):
            file = export(folder, f"{name}_{way}", partial(Recurrent, kind), shape=(12, 8))
            yield ForeignModel(f"{name}_{way}", maker, file, sequence, "log_softmax")
    yield ForeignModel("multi_label", _LEGACY, _legacy(folder, "multi_label", MultiLabel), picture, "sigmoid")


def _vit() -> nn.Module:
    import timm  # imports torchvision, which `vision` has made sure of

    network: nn.Module = timm.create_model("vit_tiny_patch16_224", img_size=_SIDE, num_classes=10, depth=4)
    return network


def _legacy(
    folder: Path, name: str, build: Callable[[], nn.Module], *, free: bool = True, shape: Shape = _PICTURE
) -> Path:
    axes = {"image": _free(shape), "scores": {0: "batch"}} if free else None
    return _export(folder, name, build, shape, dynamo=False, dynamic_axes=axes)


def _dynamo(
    folder: Path,
    name: str,
    build: Callable[[], nn.Module],
    *,
    external: bool = False,
    shape: Shape = _PICTURE,
) -> Path:
    free = ({axis: torch.export.Dim(name, min=1, max=1024) for axis, name in _free(shape).items()},)
    return _export(folder, name, build, shape, dynamo=True, dynamic_shapes=free, external_data=external)


def _free(shape: Shape) -> dict[int, str]:
    """Return the axes of any size: the batch, and the time of a sequence."""
    return {0: "batch"} if shape is _PICTURE else {0: "batch", 1: "time"}


def _export(
    folder: Path,
    name: str,
    build: Callable[[], nn.Module],
    shape: Shape,
    **options: object,
) -> Path:
    file = folder / name / "model.onnx"
    if file.exists():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    items = 2 if options.get("dynamic_shapes") or options.get("dynamic_axes") else 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both exporters warn of what they are
        torch.onnx.export(
            build().eval(),
            (torch.randn(items, *shape),),
            file,
            input_names=["image"],
            output_names=["scores"],
            verbose=False,
            **options,  # type: ignore[arg-type]
        )
    return file
