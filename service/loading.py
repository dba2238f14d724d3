"""Loads the models of a repository: side by side, each apart from the others' faults."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from structlog.typing import FilteringBoundLogger

from service.batching_limits import BatchingLimits
from service.classifier import Classifier
from service.cpus import available_cpus
from service.device import Execution
from service.errors import ModelLoadError, StartupError, UnknownLayerError
from service.model import Model
from service.model_config import ModelConfig, read_model_config
from service.model_files import MODEL_FILE, ModelFiles, ModelFolder
from service.repository import Entry, Repository, ServedModel, State
from service.run_watch import RunWatch
from service.warm_up import warm_up

_log: FilteringBoundLogger = structlog.get_logger()

_MOST_POOL_THREADS = 128
"""Threads that all sessions together hold for operators; every session has a pool of its own."""
_MOST_REASONS = 10


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How models are loaded, unless their config.toml says otherwise."""

    execution: Execution
    tap_sessions: int
    batching: BatchingLimits
    max_model_bytes: int
    share_threads: bool
    """Give each session fewer threads where there are many."""
    watch: RunWatch | None = None
    """Ends runs that take too long."""


@dataclass(frozen=True, slots=True)
class _Version:
    """A version to be loaded."""

    name: str
    number: int
    config: ModelConfig


def load_models(folder: Path, options: LoadOptions) -> Repository:
    """Load the versions that are to be served of every model in a folder.

    Raises:
        StartupError: the folder isn't there, or no model in it can be served.
    """
    started_s = time.perf_counter()
    files = ModelFiles.at(folder)
    repository = Repository()
    models = list(_configured(files, repository))
    while versions := [version for model in models for version in _missing(repository, *model)]:
        _load_all(files, repository, versions, _shared(options, len(versions)))
    entries = repository.entries()
    ready = sum(entry.state is State.READY for entry in entries)
    if not ready:
        raise StartupError(_nothing_to_serve(folder, entries))
    seconds = round(time.perf_counter() - started_s, 3)
    _log.info("models loaded", ready=ready, unavailable=len(entries) - ready, seconds=seconds)
    return repository


def _configured(files: ModelFiles, repository: Repository) -> Iterator[tuple[ModelFolder, ModelConfig]]:
    """Read the config.toml of each model; one with a wrong one isn't served at all."""
    for model in files.scan():
        try:
            yield model, read_model_config(files, model.name)
        except ModelLoadError as error:
            _log.error("model refused", model=model.name, reason=str(error))
            repository.publish(Entry.unavailable(model.name, str(n), str(error)) for n in model.versions)


def _missing(repository: Repository, model: ModelFolder, config: ModelConfig) -> list[_Version]:
    """Choose the versions to load next: at first those wanted, then others in the place of refused ones."""
    tried = {int(entry.version): entry.state for entry in repository.entries() if entry.name == model.name}
    refused = [version for version, state in tried.items() if state is State.UNAVAILABLE]
    wanted = config.versions.wanted(model.versions, refused)
    return [_Version(model.name, number, config) for number in wanted if number not in tried]


def _shared(options: LoadOptions, sessions: int) -> LoadOptions:
    if not options.share_threads:
        return options
    threads = min(options.execution.intra_op_threads, 1 + _MOST_POOL_THREADS // sessions)
    return replace(options, execution=replace(options.execution, intra_op_threads=threads))


def _load_all(
    files: ModelFiles, repository: Repository, versions: Sequence[_Version], options: LoadOptions
) -> None:
    """Load versions on as many threads as there are CPUs, and publish each as soon as it is ready."""
    threads = min(available_cpus(), len(versions))
    _log.info("loading models", versions=len(versions), threads=threads)
    repository.publish(Entry.loading(version.name, str(version.number)) for version in versions)
    with ThreadPoolExecutor(threads, thread_name_prefix="loader") as loaders:
        futures = [loaders.submit(_load, files, version, options) for version in versions]
        for done, future in enumerate(as_completed(futures), 1):
            entry = future.result()
            repository.publish([entry])
            _report(entry, f"{done}/{len(futures)}")


def _load(files: ModelFiles, version: _Version, options: LoadOptions) -> Entry:
    """Load a version; whatever goes wrong becomes its reason."""
    number = str(version.number)
    try:
        return Entry.ready(_served(files, version, options))
    except StartupError as error:
        return Entry.unavailable(version.name, number, str(error))
    except Exception:  # noqa: BLE001 - one file never keeps the others from serving; the log tells what it was
        _log.exception("unexpected error while loading", model=version.name, version=number)
        return Entry.unavailable(version.name, number, "unexpected error; the server's log says why")


def _served(files: ModelFiles, version: _Version, options: LoadOptions) -> ServedModel:
    number, config = str(version.number), version.config
    data = files.read(version.name, number, MODEL_FILE, most_bytes=options.max_model_bytes)
    if data is None:
        raise ModelLoadError(f"{MODEL_FILE} is missing")
    batching = config.batching.over(options.batching)
    try:
        model = Model(data, options.execution, options.tap_sessions, batching, options.watch)
    except ModelLoadError as error:
        raise ModelLoadError(f"{MODEL_FILE} can't be loaded: {error}") from error
    classifier = Classifier.of(model, config)
    for outputs in ((), *_preloaded(model, config, options.tap_sessions)):
        warm_up(model, outputs)
    return ServedModel(version.name, number, model, classifier)


def _preloaded(model: Model, config: ModelConfig, tap_sessions: int) -> Iterable[Sequence[str]]:
    """Build the tap sessions that config.toml names."""
    if len(config.preload_taps) > tap_sessions:
        raise ModelLoadError(
            f"config.toml: preload_taps has {len(config.preload_taps)} sets of layers; "
            f"the setting tap_sessions allows {tap_sessions}"
        )
    for names in config.preload_taps:
        try:
            model.preload(names)
            yield model.resolve_layers(names)
        except UnknownLayerError as error:
            raise ModelLoadError(f"config.toml: preload_taps: {error}") from error


def _report(entry: Entry, progress: str) -> None:
    about = {"model": entry.name, "version": entry.version, "progress": progress}
    if entry.served is None:
        _log.error("model refused", **about, reason=entry.reason)
    else:
        model = entry.served.model
        _log.info("model ready", **about, provider=model.provider, digest=model.digest)


def _nothing_to_serve(folder: Path, entries: Sequence[Entry]) -> str:
    if not entries:
        return f"the model repository {folder} holds no model; put one at {folder}/<name>/1/{MODEL_FILE}"
    reasons = [f"{entry.name}/{entry.version}: {entry.reason}" for entry in entries[:_MOST_REASONS]]
    return f"no model in {folder} can be served: {'; '.join(reasons)}"
