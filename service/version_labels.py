"""Edits the version labels of a config.toml: the rest of it stays, and readers see a whole file."""

from __future__ import annotations

import codecs
import os
import tempfile
import tomllib
from pathlib import Path

import tomlkit
from pydantic import ValidationError
from tomlkit.exceptions import TOMLKitError

from service.errors import StartupError
from service.model_config import CONFIG_FILE, ModelConfig
from service.model_files import ModelFiles, ModelFolder
from service.text_files import text_of

_TABLE = "version_labels"
_MODE = 0o644


def set_label(folder: Path, name: str, label: str, version: int | None) -> None:
    """Give a version of a model a label, which another may have had; None takes the label away.

    Raises:
        StartupError: there is no such model or version, or the config.toml is wrong.
    """
    model = _model(folder, name)
    if version is not None and version not in model.versions:
        raise StartupError(f'model "{name}" has no version {version} in {folder}; it has {_listed(model)}')
    file = (folder / name / CONFIG_FILE).resolve()
    data = file.read_bytes() if file.exists() else b""
    mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
    _replace(file, mark + _edited(data, label, version))


def version_before(folder: Path, name: str, version: int) -> int:
    """Return the newest version in the folder of those older than one.

    Raises:
        StartupError: there is none.
    """
    model = _model(folder, name)
    older = [number for number in model.versions if number < version]
    if not older:
        raise StartupError(f'model "{name}" has no version before {version}; it has {_listed(model)}')
    return older[-1]


def _model(folder: Path, name: str) -> ModelFolder:
    models = {model.name: model for model in ModelFiles.at(folder).scan()}
    if name not in models:
        raise StartupError(f'there is no model "{name}" in {folder}; there is {", ".join(models)}')
    return models[name]


def _listed(model: ModelFolder) -> str:
    return ", ".join(map(str, model.versions))


def _edited(data: bytes, label: str, version: int | None) -> bytes:
    try:
        document = tomlkit.parse(text_of(data))
        labels = document.setdefault(_TABLE, tomlkit.table())
        if version is None:
            labels.pop(label, None)
        else:
            labels[label] = version
        edited = tomlkit.dumps(document)
        ModelConfig.model_validate(tomllib.loads(edited))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise StartupError(f"{CONFIG_FILE}: {place}: {problem['msg']}") from error
    except (TOMLKitError, ValueError) as error:
        raise StartupError(f"{CONFIG_FILE} can't be read: {error}") from error
    return edited.encode()


def _replace(file: Path, data: bytes) -> None:
    """Put a new file in the place of the old one, at once and for good."""
    mode = file.stat().st_mode if file.exists() else _MODE
    descriptor, new = tempfile.mkstemp(dir=file.parent, prefix=f".{CONFIG_FILE}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        Path(new).replace(file)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise
