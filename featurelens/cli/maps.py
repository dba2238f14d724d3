"""Saves feature maps: exact tensors for programs, pictures for people."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from featurelens.cli.console import CommandError, printable
from featurelens.results import Prediction

_OVERVIEW = "overview"


class MapFolder:
    """A folder with a sub-folder for each image: a .npy and a .png for each layer, and overview.png."""

    def __init__(self, root: Path) -> None:
        self._root = root
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
        from featurelens.maps import draw_layer, draw_overview  # fonts and all: nobody else draws

        folder = self._root / _file_name(Path(path).stem, self._taken)
        folder.mkdir(parents=True, exist_ok=True)
        labels = [score.label for score in sorted(prediction.scores, key=lambda score: score.index)]
        taken = {_OVERVIEW}
        for name, values in prediction.feature_maps.items():
            file_name = _file_name(name, taken)
            np.save(folder / f"{file_name}.npy", values)
            draw_layer(name, values, labels).save(folder / f"{file_name}.png")
        title = f"{printable(Path(path).name)}    {prediction.label} with {prediction.probability:.2%}"
        overview = draw_overview(title, prediction.feature_maps, prediction.input, labels)
        overview.save(folder / f"{_OVERVIEW}.png")


def _file_name(name: str, taken: set[str]) -> str:
    """Make a file name that any system takes and that is not taken yet; layers may be called /conv1/Conv."""
    base = re.sub(r"[^\w.-]+", "_", name).strip("._") or "unnamed"
    unique, count = base, 1
    while unique.casefold() in taken:
        count += 1
        unique = f"{base}-{count}"
    taken.add(unique.casefold())
    return unique
