"""Sees what a model repository holds, file by file, once it has settled; and that it is gone for a while."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath

import structlog
from structlog.typing import FilteringBoundLogger

from service.errors import ModelNotReadyError, StartupError
from service.files_beside import FILES as DESCRIBING_FILES
from service.model_data import Stamps
from service.model_files import ModelFiles, Stamp
from service.settling import Path, Picture, Settling

_log: FilteringBoundLogger = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class View:
    """The folder of one model."""

    beside: Mapping[str, Stamp] = field(default_factory=dict)
    """The files beside the versions: config.toml, labels, and those in versions that are read with it."""
    versions: Mapping[int, Stamps] = field(default_factory=dict)
    """The files of the versions, ascending; None for a model file that is missing."""


class FolderView:
    """The models of one folder, as they were when their files were last left alone for a while.

    If the folder is gone or empty, a disk may be missing: nothing is seen until it is back.

    Attributes:
        models: the folders of the models, by name.
        settle_s: see below.

    Args:
        folder: the model repository.
        picture: its files when they were last read.
        settle_s: how long a file has to be left alone before it counts.
    """

    def __init__(self, folder: FilePath, picture: Picture, settle_s: float) -> None:
        self._folder = folder
        self.settle_s = settle_s
        self._settling = Settling(picture, settle_s)
        self._ignored: set[tuple[str, str]] = set()
        self._gone = ""
        self.models: Mapping[str, View] = _by_model(picture)

    def look(self) -> float | None:
        """Take a look; tell after how many seconds another one may see more."""
        try:
            picture = self._picture(self.files())
        except ModelNotReadyError:
            return self.settle_s
        wait_s = self._settling.look(picture, time.monotonic())
        self.models = _by_model(self._settling.picture)
        return wait_s

    def look_at(self, name: str) -> None:
        """See one model's folder as it is now, settled or not.

        Raises:
            ModelNotReadyError: the folder is gone.
        """
        picture = self._picture(self.files())
        paths = {*picture, *self._settling.picture}
        self._settling.settle(picture, [path for path in paths if path[0] == name])
        self.models = _by_model(self._settling.picture)

    def unchanged(self, paths: Mapping[Path, Stamp | None]) -> bool:
        """Tell whether files are as they were seen, right now."""
        files = self.files()
        return all(files.stamp(path) == stamp for path, stamp in paths.items())

    def files(self) -> ModelFiles:
        """Return the files; a link in the folder's path may lead elsewhere by now.

        Raises:
            ModelNotReadyError: the folder is gone.
        """
        try:
            return ModelFiles.at(self._folder, self._ignore)
        except (StartupError, OSError) as error:
            raise self._missing(str(error)) from error

    def _picture(self, files: ModelFiles) -> Picture:
        try:
            models = files.scan()
            picture = {path: stamp for model in models for path, stamp in files.stamps(model).items()}
            emptied = self.models.keys() - {model.name for model in models}
            picture |= {(name,): None for name in emptied if files.root.joinpath(name).is_dir()}
        except OSError as error:
            raise self._missing(str(error)) from error
        if not models:
            raise self._missing("it holds no model")
        if self._gone:
            self._gone = ""
            _log.info("the model repository is back")
        return picture

    def _missing(self, reason: str) -> ModelNotReadyError:
        if reason != self._gone:
            self._gone = reason
            _log.error("the model repository is gone; what is loaded is served on", reason=reason)
        return ModelNotReadyError("the model repository is gone; the server's log says why")

    def _ignore(self, place: str, reason: str) -> None:
        if (place, reason) not in self._ignored:
            self._ignored.add((place, reason))
            _log.warning("ignored in the model repository", place=place, reason=reason)


def _by_model(picture: Picture) -> dict[str, View]:
    beside: dict[str, dict[str, Stamp]] = {path[0]: {} for path in picture}
    versions: dict[str, dict[int, dict[str, Stamp | None]]] = {name: {} for name in beside}
    for path, stamp in picture.items():
        match path:
            case (model, version, file):
                versions[model].setdefault(int(version), {})[file] = stamp
                if file in DESCRIBING_FILES and stamp is not None:  # they are read with the config
                    beside[model][f"{version}/{file}"] = stamp
            case (model, file) if stamp is not None:
                beside[model][file] = stamp
    return {name: View(beside[name], dict(sorted(versions[name].items()))) for name in beside}
