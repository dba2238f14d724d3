"""The model repository: <name>/<version>/model.onnx under one folder, read and loaded at start.

One bad file never keeps the others from serving. A caller's text is only ever looked up in the index that was
scanned; it never becomes a path.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import structlog
from structlog.typing import FilteringBoundLogger

from service.classifier import Classifier
from service.errors import (
    InvalidRequestError,
    ModelLoadError,
    ModelNotReadyError,
    StartupError,
    UnknownModelError,
)
from service.model import Model
from service.model_config import read_model_config
from service.statistics import Statistics

_log: FilteringBoundLogger = structlog.get_logger()

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_MODEL_FILE = "model.onnx"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A version of a model that answers calls."""

    name: str
    version: str
    model: Model
    classifier_or_none: Classifier | None
    statistics: Statistics = field(default_factory=Statistics)

    def classifier(self) -> Classifier:
        """Return how it classifies.

        Raises:
            InvalidRequestError: it is no image classifier.
        """
        if self.classifier_or_none is None:
            raise InvalidRequestError(
                f'model "{self.name}" is no classifier: it needs one input and one float output [N, classes]'
            )
        return self.classifier_or_none


class State(Enum):
    """Whether a version can be called."""

    READY = "ready"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Entry:
    """One version in the index."""

    name: str
    version: str
    served: ServedModel | None
    reason: str = ""
    """Why it is not served, if it isn't."""

    @property
    def state(self) -> State:
        """Its state."""
        return State.UNAVAILABLE if self.served is None else State.READY


class Repository:
    """The index of all versions of all models."""

    def __init__(self, entries: list[Entry]) -> None:
        self._by_name: dict[str, dict[str, Entry]] = {}
        for entry in sorted(entries, key=lambda entry: (entry.name, int(entry.version))):
            self._by_name.setdefault(entry.name, {})[entry.version] = entry

    @classmethod
    def load(cls, folder: Path, load_model: Callable[[Path], Model]) -> Repository:
        """Load every version of every model in a folder.

        Raises:
            StartupError: the folder isn't there, or no model in it can be served.
        """
        versions = _scan(folder)
        repository = cls([_load(path, load_model) for path in versions])
        if not any(entry.served for entry in repository.entries()):
            raise StartupError(_nothing_to_serve(folder, repository.entries()))
        return repository

    def entries(self) -> list[Entry]:
        """List all versions by name, then by version, oldest first."""
        return [entry for versions in self._by_name.values() for entry in versions.values()]

    def ready_names(self) -> tuple[str, ...]:
        """Name the models of which a version can be called."""
        return tuple(dict.fromkeys(entry.name for entry in self.entries() if entry.served))

    def get(self, name: str, version: str = "") -> ServedModel:
        """Return a model that answers calls: "" is the only model, or the newest ready version.

        Raises:
            InvalidRequestError: no name, and several models to choose from.
            UnknownModelError: no such model or version.
            ModelNotReadyError: it is there and can't be served.
        """
        versions = self._versions(name)
        if version:
            if version not in versions:
                raise UnknownModelError(
                    f'model "{name}" has no version "{version[:100]}"; it has {", ".join(versions)}'
                )
            entry = versions[version]
        else:
            ready = [entry for entry in versions.values() if entry.served]
            entry = (ready or list(versions.values()))[-1]
        if entry.served is None:
            raise ModelNotReadyError(f'model "{entry.name}" version {entry.version} could not be loaded')
        return entry.served

    def _versions(self, name: str) -> dict[str, Entry]:
        if not name:
            if len(self._by_name) != 1:
                raise InvalidRequestError(
                    f"the request names no model; it is one of {', '.join(self._by_name)}"
                )
            return next(iter(self._by_name.values()))
        if name not in self._by_name:
            raise UnknownModelError(f'there is no model "{name[:100]}"; there is {", ".join(self._by_name)}')
        return self._by_name[name]


def _scan(folder: Path) -> list[Path]:
    """Find the version folders; what isn't one is ignored with a warning."""
    if not folder.is_dir():
        raise StartupError(f"the model repository {folder} is not a folder")
    found = []
    for model in sorted(path for path in folder.iterdir() if path.is_dir()):
        for version in sorted(path for path in model.iterdir() if path.is_dir()):
            if _NAME.fullmatch(model.name) and _VERSION.fullmatch(version.name):
                found.append(version)
            else:
                _log.warning(
                    "folder ignored", folder=f"{model.name}/{version.name}", expected="<name>/<number>"
                )
    return found


def _load(folder: Path, load_model: Callable[[Path], Model]) -> Entry:
    name, version = folder.parent.name, folder.name
    try:
        model = load_model(folder / _MODEL_FILE)
        served = ServedModel(name, version, model, Classifier.of(model, read_model_config(folder.parent)))
    except ModelLoadError as error:
        _log.error("model refused", model=name, version=version, reason=str(error))
        return Entry(name, version, None, str(error))
    _log.info("model ready", model=name, version=version, provider=model.provider, digest=model.digest)
    return Entry(name, version, served)


def _nothing_to_serve(folder: Path, entries: list[Entry]) -> str:
    if not entries:
        return f"the model repository {folder} holds no model; put one at {folder}/<name>/1/{_MODEL_FILE}"
    reasons = "; ".join(f"{entry.name}/{entry.version}: {entry.reason}" for entry in entries)
    return f"no model in {folder} can be served: {reasons}"
