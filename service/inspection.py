"""Loads one model file as the server does, and tells what it would be served as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.errors import ModelLoadError
from service.files_beside import Beside, read_beside
from service.loading import LoadOptions, Version, load_version
from service.model_config import ModelConfig
from service.model_data import read_model
from service.model_files import ModelFiles
from service.repository import ServedModel

_NUMBER = 1
"""Of a version that has none yet."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """A model file, loaded.

    Attributes:
        served: What it is served as.
        sizes: Bytes of its files by name, those beside it that hold its weights included.
    """

    served: ServedModel
    sizes: Mapping[str, int]


def inspect(file: Path, name: str, config: ModelConfig, options: LoadOptions) -> Inspection:
    """Load a model file as the server does, and run it once at each size that batches will have.

    Args:
        file: Of any name; files with its weights lie beside it.
        name: What the model is called.
        config: What its config.toml says.
        options: How models are loaded.

    Raises:
        ModelLoadError: It can't be served.
        DeviceUnavailableError: Not on the device that is required.
    """
    file = file.resolve()
    files = ModelFiles.at(file.parent)
    found = read_model(files, file.name, most_bytes=options.max_model_bytes)
    if found is None:
        raise ModelLoadError(f"{file.name} is missing")
    described = {0: config.described.get(0, Beside()), _NUMBER: read_beside(files)}
    config = config.model_copy(update={"described": described})
    served = load_version(found.data, Version(name, _NUMBER, config), options, digest=found.digest)
    return Inspection(served, {name: stamp.size for name, stamp in found.stamps.items() if stamp is not None})
