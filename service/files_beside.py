"""What the files say that libraries leave beside a model: preprocessor_config.json and config.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from service.errors import ModelLoadError
from service.hugging_face import hugging_face_keys
from service.model_files import ModelFiles
from service.preprocessing import Preprocessing, problems_of
from service.settings import MiB
from service.timm_config import is_timm, labels_of, timm_keys

PROCESSOR_FILE = "preprocessor_config.json"
LIBRARY_FILE = "config.json"
FILES = (PROCESSOR_FILE, LIBRARY_FILE)
_MOST_BYTES = 16 * MiB

Keys = Mapping[str, Any]


class Beside(BaseModel):
    """What the files of one folder say."""

    model_config = ConfigDict(frozen=True)

    source: str = ""
    """The file that says how pictures are prepared."""
    preprocessing: Preprocessing | None = None
    problem: str = ""
    """Why that can't be done."""
    labels: tuple[str, ...] | None = None

    def over(self, other: Beside) -> Beside:
        """Return what is said here, and of the rest what the other says."""
        return Beside(
            **(self if self.source else other).model_dump(exclude={"labels"}, exclude_unset=True),
            labels=self.labels if self.labels is not None else other.labels,
        )


def read_beside(files: ModelFiles, *folder: str) -> Beside:
    """Read the files of a folder below the root.

    Raises:
        ModelLoadError: one isn't a JSON object, or can't be read.
    """
    processor, library = (_read(files, folder, name) for name in FILES)
    try:
        labels = labels_of(library or {})
    except ValueError as error:
        raise ModelLoadError(f"{LIBRARY_FILE}: {error}") from error
    if processor is not None and not _refers(processor):
        return _beside(PROCESSOR_FILE, hugging_face_keys, processor, labels)
    if library is not None and is_timm(library):
        return _beside(LIBRARY_FILE, timm_keys, library, labels)
    return Beside(labels=labels)


def _refers(processor: Keys) -> bool:
    """Tell whether a processor only hands on what timm's config.json says."""
    return str(processor.get("image_processor_type")).startswith("TimmWrapper")


def _beside(
    source: str, keys_of: Callable[[Keys], Keys], told: Keys, labels: tuple[str, ...] | None
) -> Beside:
    try:
        keys = Preprocessing.model_validate({"kind": "resize", **keys_of(told)})
        return Beside(source=source, preprocessing=keys, labels=labels)
    except ValidationError as error:
        problem = problems_of(error)
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:  # of values of the wrong kind
        problem = str(error)
    return Beside(source=source, problem=problem, labels=labels)


def _read(files: ModelFiles, folder: tuple[str, ...], name: str) -> Keys | None:
    data = files.read(*folder, name, most_bytes=_MOST_BYTES)
    if data is None:
        return None
    try:
        told = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(f"{name} can't be read: it is not JSON") from error
    if not isinstance(told, dict):
        raise ModelLoadError(f"{name} can't be read: it is not a JSON object")
    return told
