"""The optional config.toml beside a model: what a file that doesn't explain itself leaves open."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from service.errors import ModelLoadError
from service.preprocess import Preprocessing

_FILE_NAME = "config.toml"


class ModelConfig(BaseModel):
    """What config.toml may say. Where it is silent, the model file's own metadata holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...] | None = None
    """Names of the classes, in the order of the output."""
    labels_file: str | None = None
    """Instead of labels: a text file beside config.toml, one label a line."""
    output: str | None = None
    """The output that holds the classes; needed where the graph declares several."""
    softmax: bool | None = None
    """Whether that output is logits, to be made probabilities. Unset: yes, unless Softmax computes it."""
    preprocessing: Preprocessing | None = None
    """How images are made into the input."""


def read_model_config(folder: Path) -> ModelConfig:
    """Read the config.toml of a model's folder; an empty one if there is none.

    Raises:
        ModelLoadError: it can't be read, or says what it may not.
    """
    path = folder / _FILE_NAME
    if not path.exists():
        return ModelConfig()
    try:
        config = ModelConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        return _with_labels_from_file(config, folder)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ModelLoadError(f"{_FILE_NAME}: {problems}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModelLoadError(f"{_FILE_NAME} can't be read: {error}") from error


def _with_labels_from_file(config: ModelConfig, folder: Path) -> ModelConfig:
    if config.labels_file is None:
        return config
    if config.labels is not None:
        raise ModelLoadError(f"{_FILE_NAME} has both labels and labels_file; keep one")
    if Path(config.labels_file).name != config.labels_file:
        raise ModelLoadError(f"{_FILE_NAME}: labels_file must be the name of a file in the same folder")
    lines = (folder / config.labels_file).read_text(encoding="utf-8-sig").splitlines()
    return config.model_copy(update={"labels": tuple(line.strip() for line in lines if line.strip())})
