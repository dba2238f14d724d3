"""A model file that another tool wrote, and what is known of it without reading it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]


@dataclass(frozen=True)
class ForeignModel:
    """One file.

    Attributes:
        name: What it is called in the table, and in the repository.
        maker: The tool that wrote it.
        file: Where it lies; weights outside of it lie beside it.
        feed: Makes the inputs of so many items, different for each generator.
        head: What its output is known to be, as HeadInfo names it; "" for a model that is no classifier.
        precision: Key of the tolerances: float32, float16, quantized.
        fixed_batch: Items of every run; 0 for any number.
        config: Its config.toml.
    """

    name: str
    maker: str
    file: Path
    feed: Callable[[np.random.Generator, int], Feeds]
    head: str = ""
    precision: str = "float32"
    fixed_batch: int = 0
    config: str = ""


def normal(name: str, *shape: int, dtype: str = "float32") -> Callable[[np.random.Generator, int], Feeds]:
    """Make a feed of one input [items, *shape] with normally distributed values."""
    return lambda rng, items: {name: rng.standard_normal((items, *shape)).astype(dtype)}
