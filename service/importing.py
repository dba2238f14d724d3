"""Puts a model file into a repository as a new version, so that a running server sees it whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from service.draft_config import Choices, draft
from service.errors import StartupError
from service.files_beside import FILES
from service.inspection import Inspection, inspect
from service.loading import LoadOptions
from service.model_config import CONFIG_FILE, ModelConfig, read_model_config
from service.model_files import MODEL_FILE, NAME_RULE, ModelFiles, is_model_name


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of an import.

    Attributes:
        inspection: What the model is served as.
        version: The number that it got.
        config: The config.toml that was written; "" if there was one, which stays as it is.
    """

    inspection: Inspection
    version: int
    config: str


def import_model(
    file: Path,
    name: str,
    repository: Path,
    options: LoadOptions,
    choices: Choices,
    version: int | None = None,
) -> Imported:
    """Load a model, copy it and the files of its weights into a repository, and rename it into place.

    Args:
        file: The model's file, of any name.
        name: What it is to be called; there may be versions of it.
        repository: The folder of the models; it is made if it isn't there.
        options: How models are loaded.
        choices: What its config.toml is to say.
        version: Its number; None: the next.

    Raises:
        StartupError: It can't be served, or there is such a version, or a config.toml already.
    """
    if not is_model_name(name):
        raise StartupError(f'"{name}" is no name of a model: {NAME_RULE}')
    try:
        repository.mkdir(parents=True, exist_ok=True)
        files = ModelFiles.at(repository, ignored=lambda place, reason: None)
        there = next((model.versions for model in files.scan() if model.name == name), ())
        number = version or max(there, default=0) + 1
        target = files.root / name / str(number)
        if target.exists():
            raise StartupError(f"{name} has a version {number}; give another one, or none for the next")
        config = _config(files, name, choices)
        inspection = inspect(file, name, config or choices.config(), options)
        text = "" if config else draft(inspection.served, choices)
        with _staged(files.root) as staged:
            _fill(staged / str(number), file.resolve(), inspection)
            if config is None:
                (staged / CONFIG_FILE).write_text(text)
            _put(staged, target)
    except OSError as error:
        raise StartupError(f"{error.filename}: {error.strerror}") from error
    return Imported(inspection, number, text)


def _config(files: ModelFiles, name: str, choices: Choices) -> ModelConfig | None:
    """Read the config.toml that is there; None if there is none."""
    if not (files.root / name / CONFIG_FILE).exists():
        return None
    if choices != Choices():
        raise StartupError(f"{name} has a {CONFIG_FILE}, which holds for all its versions: say it there")
    return read_model_config(files, name)


@contextmanager
def _staged(root: Path) -> Iterator[Path]:
    """Make a folder that a server doesn't look into, on the same disk."""
    folder = Path(mkdtemp(prefix=".import-", dir=root))
    try:
        model = folder / "model"
        model.mkdir()
        yield model
    finally:
        shutil.rmtree(folder)


def _fill(folder: Path, file: Path, inspection: Inspection) -> None:
    """Copy the files that were loaded, and the descriptions beside them."""
    folder.mkdir()
    for name in inspection.sizes:
        target = folder / (MODEL_FILE if name == file.name else name)
        if target.exists():
            raise StartupError(
                f"its weights are in a file called {MODEL_FILE}; save the model with another name"
            )
        shutil.copyfile(file.with_name(name), target)
    for name in FILES:
        if (beside := file.with_name(name)).is_file():
            shutil.copyfile(beside, folder / name)


def _put(staged: Path, target: Path) -> None:
    """Rename a new model into place with its config.toml, and a new version of one that is there without."""
    if not target.parent.exists():
        staged.rename(target.parent)
        return
    if (config := staged / CONFIG_FILE).exists():
        config.rename(target.parent / CONFIG_FILE)
    (staged / target.name).rename(target)
