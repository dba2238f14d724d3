"""Saves feature maps: exact tensors for programs, pictures for people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from featurelens.cli.console import CommandError, printable
from featurelens.client import Client
from featurelens.errors import FeaturelensError
from featurelens.results import Prediction

_OVERVIEW = "overview"
_INPUT = ""  # no layer is called so


class MapFolder:
    """A folder with a sub-folder for each image: a .npy and a .png for each layer, and overview.png.

    Args:
        root: the folder.
        client: is asked which axes hold channels, once for each model.
    """

    def __init__(self, root: Path, client: Client) -> None:
        self._root = root
        self._client = client
        self._axes: dict[str, Mapping[str, int]] = {}
        self._taken: set[str] = set()

    def save(self, path: str, prediction: Prediction) -> None:
        """Write the feature maps of the image at `path`.

        Raises:
            CommandError: the folder can't be written.
        """
        try:
            self._save(path, prediction)
        except OSError as error:
            raise CommandError(
                f"can't write feature maps to {self._root}: {error.strerror or error}"
            ) from error

    def _save(self, path: str, prediction: Prediction) -> None:
        from featurelens.maps import INPUT, draw_layer, draw_overview  # fonts and all: nobody else draws

        folder = self._root / _file_name(Path(path).stem, self._taken)
        folder.mkdir(parents=True, exist_ok=True)
        labels = [score.label for score in sorted(prediction.scores, key=lambda score: score.index)]
        taken = {_OVERVIEW}
        maps, known = prediction.feature_maps.as_asked(), self._channel_axes(prediction)
        layers = dict(zip(maps, prediction.feature_maps, strict=True))
        axes = {name: known.get(layer, 0) for name, layer in layers.items()}
        for name, values in maps.items():
            file_name = _file_name(name, taken)
            np.save(folder / f"{file_name}.npy", values)
            drawn = draw_layer(name, values, labels, channel_axis=axes[name])
            drawn.save(folder / f"{file_name}.png")
        title = f"{printable(Path(path).name)}    {prediction.label} with {prediction.probability:.2%}"
        axes[INPUT] = known.get(_INPUT, 0)
        overview = draw_overview(title, maps, prediction.input, labels, channel_axes=axes)
        overview.save(folder / f"{_OVERVIEW}.png")

    def _channel_axes(self, prediction: Prediction) -> Mapping[str, int]:
        """Tell which axis of each layer holds channels, and of the input; nothing if the model is gone."""
        if prediction.digest not in self._axes:
            self._axes[prediction.digest] = {}
            with suppress(FeaturelensError):
                model = self._client.describe(prediction.model, prediction.version)
                if model.digest == prediction.digest:
                    axes = {layer.name: layer.channel_axis for layer in model.layers}
                    self._axes[prediction.digest] = axes | {_INPUT: model.inputs[0].channel_axis}
        return self._axes[prediction.digest]


def _file_name(name: str, taken: set[str]) -> str:
    """Make a file name that any system takes and that is not taken yet; layers may be called /conv1/Conv."""
    base = re.sub(r"[^\w.-]+", "_", name).strip("._") or "unnamed"
    unique, count = base, 1
    while unique.casefold() in taken:
        count += 1
        unique = f"{base}-{count}"
    taken.add(unique.casefold())
    return unique
