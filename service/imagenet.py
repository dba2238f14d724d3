"""The names of ImageNet's 1,000 classes, for models that were trained on it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

IMAGENET = ("imagenet-1k", "imagenet1k")
"""What config.toml calls them."""
_FILE = Path(__file__).with_name("imagenet-1k.txt")


@cache
def imagenet_labels() -> tuple[str, ...]:
    """Return them in the order of ILSVRC 2012, which is that of networks' outputs."""
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if not line.startswith("#"))
