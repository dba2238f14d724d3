"""The feature maps of one image, under every name that they can be looked up by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy.typing as npt


class FeatureMaps(Mapping[str, npt.NDArray[Any]]):
    """Feature maps by layer name; one that was asked for by a module path is found under that too.

    Iterating gives each map once, under its layer's name.

    Args:
        maps: by layer name.
        asked: layer names by what they were asked for as, where that is another name: {"layer3": "relu_12"}.
    """

    def __init__(self, maps: Mapping[str, npt.NDArray[Any]], asked: Mapping[str, str] | None = None) -> None:
        self._maps = dict(maps)
        self._asked = {name: layer for name, layer in (asked or {}).items() if layer in self._maps}

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._maps[self._asked.get(name, name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._maps)

    def __len__(self) -> int:
        return len(self._maps)

    def __repr__(self) -> str:
        return f"FeatureMaps({self.as_asked()!r})"

    def as_asked(self) -> dict[str, npt.NDArray[Any]]:
        """Return each map once, under the name that it was asked for by."""
        names = {layer: name for name, layer in reversed(self._asked.items())}
        return {names.get(layer, layer): values for layer, values in self._maps.items()}
