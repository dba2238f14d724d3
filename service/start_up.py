"""Loads all models of a repository at the start: side by side, each apart from the others' faults."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import structlog
from structlog.typing import FilteringBoundLogger

from service.cpus import available_cpus
from service.errors import ModelLoadError, StartupError
from service.loading import LoadOptions, Version, loaded, log_loaded
from service.model_config import ModelConfig, read_model_config
from service.model_files import MODEL_FILE, ModelFiles, ModelFolder
from service.repository import Entry, Repository, State
from service.settling import Picture

_log: FilteringBoundLogger = structlog.get_logger()

_MOST_REASONS = 10

Known = Mapping[str, Mapping[int, str]]
"""Why versions are refused, by model; "" for those that are not."""


@dataclass(frozen=True, slots=True)
class Started:
    """What was loaded, and of which files."""

    folder: Path
    options: LoadOptions
    repository: Repository
    picture: Picture
    """The files, as they were before they were read."""
    configs: Mapping[str, ModelConfig]
    """Of the models whose config.toml is right."""


def load_models(folder: Path, options: LoadOptions, known: Known | None = None) -> Started:
    """Load the versions that are to be served of every model in a folder.

    Args:
        folder: the model repository.
        options: how models are loaded.
        known: what other processes serve and have refused of it; what came since then is left for later, so
            that it is tried first.

    Raises:
        StartupError: the folder isn't there, or no model in it can be served.
    """
    started_s = time.perf_counter()
    files = ModelFiles.at(folder)
    repository = Repository()
    folders = [_known_part(model, known or {}) for model in files.scan()]
    picture = {path: stamp for model in folders for path, stamp in files.stamps(model).items()}
    configs = _configs(files, folders, repository)
    for model in folders:
        reasons = (known or {}).get(model.name, {})
        refused = [n for n in model.versions if reasons.get(n)]
        repository.publish(Entry.unavailable(model.name, str(n), reasons[n]) for n in refused)
    models = [(model, configs[model.name]) for model in folders if model.name in configs]
    while versions := [version for model in models for version in _missing(repository, *model)]:
        _load_all(files, repository, versions, options.shared_by(len(versions)))
    for name, config in configs.items():
        repository.publish_model(name, repository.entries(name), config.version_labels)
    entries = repository.entries()
    ready = sum(entry.state is State.READY for entry in entries)
    if not ready:
        raise StartupError(_nothing_to_serve(folder, entries))
    seconds = round(time.perf_counter() - started_s, 3)
    _log.info("models loaded", ready=ready, unavailable=len(entries) - ready, seconds=seconds)
    return Started(folder, options, repository, picture, configs)


def _known_part(model: ModelFolder, known: Known) -> ModelFolder:
    """Leave out what other processes haven't loaded or refused, if there are any."""
    if not known:
        return model
    versions = (number for number in model.versions if number in known.get(model.name, {}))
    return ModelFolder(model.name, tuple(versions))


def _configs(
    files: ModelFiles, folders: Sequence[ModelFolder], repository: Repository
) -> dict[str, ModelConfig]:
    """Read the config.toml of each model; one with a wrong one isn't served at all."""
    configs = {}
    for model in folders:
        try:
            configs[model.name] = read_model_config(files, model.name)
        except ModelLoadError as error:
            _log.error("model refused", model=model.name, reason=str(error))
            repository.publish(Entry.unavailable(model.name, str(n), str(error)) for n in model.versions)
    return configs


def _missing(repository: Repository, model: ModelFolder, config: ModelConfig) -> list[Version]:
    """Choose the versions to load next: at first those wanted, then others in the place of refused ones."""
    tried = {int(entry.version): entry.state for entry in repository.entries() if entry.name == model.name}
    refused = [version for version, state in tried.items() if state is State.UNAVAILABLE]
    wanted = config.wanted(model.versions, refused)
    return [Version(model.name, number, config) for number in wanted if number not in tried]


def _load_all(
    files: ModelFiles, repository: Repository, versions: Sequence[Version], options: LoadOptions
) -> None:
    """Load versions on as many threads as there are CPUs, and publish each as soon as it is ready."""
    threads = min(available_cpus(), len(versions))
    _log.info("loading models", versions=len(versions), threads=threads)
    repository.publish(Entry.loading(version.name, str(version.number)) for version in versions)
    with ThreadPoolExecutor(threads, thread_name_prefix="loader") as loaders:
        futures = [loaders.submit(loaded, files, version, options) for version in versions]
        for done, future in enumerate(as_completed(futures), 1):
            entry = future.result()
            repository.publish([entry])
            log_loaded(entry, progress=f"{done}/{len(futures)}")


def _nothing_to_serve(folder: Path, entries: Sequence[Entry]) -> str:
    if not entries:
        return f"the model repository {folder} holds no model; put one at {folder}/<name>/1/{MODEL_FILE}"
    reasons = [f"{entry.name}/{entry.version}: {entry.reason}" for entry in entries[:_MOST_REASONS]]
    return f"no model in {folder} can be served: {'; '.join(reasons)}"
