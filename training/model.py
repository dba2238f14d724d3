"""LeNet as the article draws it: every layer a named module, in the order in which an image passes them."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

# Of the 60,000 training images after padding to 32x32, pixels scaled to 0..1.
PIXEL_MEAN = 0.1000
PIXEL_STD = 0.2752

LAYERS = (
    "conv1",
    "relu1",
    "pool1",
    "conv2",
    "relu2",
    "pool2",
    "fc1",
    "relu3",
    "fc2",
    "relu4",
    "logits",
    "probabilities",
)


class Normalize(nn.Module):
    """Give ink values (0 = background, 1 = ink) zero mean and unit variance over the training images."""

    def forward(self, image: Tensor) -> Tensor:
        """Keep the shape."""
        return (image - PIXEL_MEAN) / PIXEL_STD


class LeNet(nn.Sequential):
    """63,802 parameters; image (N, 1, 32, 32) float32 in 0..1 -> probabilities (N, 10).

    After Y. LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998, with ReLU, max
    pooling, a dense conv2, 100 units in fc2 and softmax.
    """

    def __init__(self) -> None:
        super().__init__(
            OrderedDict(
                normalize=Normalize(),
                conv1=nn.Conv2d(1, 6, kernel_size=5),  # (N, 6, 28, 28)
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),  # (N, 6, 14, 14)
                conv2=nn.Conv2d(6, 16, kernel_size=5),  # (N, 16, 10, 10)
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),  # (N, 16, 5, 5)
                flatten=nn.Flatten(),  # (N, 400)
                fc1=nn.Linear(400, 120),
                relu3=nn.ReLU(),
                fc2=nn.Linear(120, 100),
                relu4=nn.ReLU(),
                logits=nn.Linear(100, 10),
                probabilities=nn.Softmax(dim=1),
            )
        )

    def outputs(self, image: Tensor) -> dict[str, Tensor]:
        """Return what every module puts out, by its name; LAYERS and the two steps between them."""
        outputs = {}
        for name, layer in self.named_children():
            image = layer(image)
            outputs[name] = image
        return outputs


def random_start(seed: int) -> LeNet:
    """Build a LeNet whose weights depend on `seed` alone; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LeNet()
