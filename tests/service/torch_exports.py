"""A small residual network with modules inside of modules, as torch's two exporters write it."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import nn

Exporter = Literal["torchscript", "dynamo"]
SIDE = 16


class Block(nn.Module):
    """A residual block that calls its ReLU twice."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.relu(self.bn1(self.conv1(x)))
        result: torch.Tensor = self.relu(self.conv2(inner) + self.shortcut(x))
        return result


class Extremes(nn.Module):
    """Two outputs; one of them is computed with sizes that are known at run time only."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.mean((2, 3)), x.reshape(x.shape[0], x.shape[1], -1).amax(2)


class Net(nn.Module):
    """Two stages, the second called twice, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.layer1 = nn.Sequential(Block(4, 4), Block(4, 8))
        self.layer2 = nn.Sequential(Block(8, 8))
        self.extremes = Extremes()
        self.fc = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer2(self.layer2(self.layer1(self.stem(x))))
        logits: torch.Tensor = self.fc(torch.cat(self.extremes(x), 1))
        return logits


def network() -> Net:
    """Make the network, always with the same weights."""
    torch.manual_seed(0)
    return Net().eval()


@cache
def export(exporter: Exporter) -> bytes:
    """Return the network as one of the exporters writes it, with a free batch."""
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    example = (torch.zeros(2, 3, SIDE, SIDE),)
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["logits"]}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of torch's own deprecations, the older exporter among them
        if exporter == "torchscript":
            axes = {"image": {0: "n"}, "logits": {0: "n"}}
            with TemporaryDirectory() as folder:
                file = Path(folder, "model.onnx")
                torch.onnx.export(network(), example, file, dynamo=False, dynamic_axes=axes, **names)
                return file.read_bytes()
        shapes = ({0: torch.export.Dim("n")},)
        program = torch.onnx.export(
            network(), example, dynamo=True, verbose=False, dynamic_shapes=shapes, **names
        )
    assert program is not None
    data: bytes = program.model_proto.SerializeToString()
    return data


def outputs_of(module: str, images: torch.Tensor) -> list[torch.Tensor]:
    """Return what a module gives in torch itself, once for each time that it is called."""
    net = network()
    seen: list[torch.Tensor] = []
    net.get_submodule(module).register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    with torch.no_grad():
        net(images)
    return seen
