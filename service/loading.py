"""Loads one version of a model from its file: checked, and warmed up as far as config.toml asks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Annotated

import structlog
from pydantic import Field
from structlog.typing import FilteringBoundLogger

from service.batching import Rows
from service.batching_limits import BatchingLimits
from service.classifier import Classifier, NoClassifier
from service.device import Execution
from service.errors import ModelLoadError, StartupError, UnknownLayerError
from service.model import Model
from service.model_config import ModelConfig
from service.model_data import ModelReading, Stamps
from service.model_files import MODEL_FILE, ModelFiles
from service.repository import Entry, ServedModel
from service.run_watch import run_watch
from service.settings import MiB
from service.suspects import Suspects
from service.tap_memory import TapMemory
from service.warm_up import shortest_run_s, warm_up

_log: FilteringBoundLogger = structlog.get_logger()

_MOST_POOL_THREADS = 128
"""Threads that all sessions together hold for operators; every session has a pool of its own."""
_SMALL_BYTES = 16 * MiB
"""Of a file: no larger one is loaded twice to find out how long its runs take."""
_SHORT_RUN_S = 0.001
UNEXPECTED = "unexpected error; the server's log says why"


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How models are loaded, unless their config.toml says otherwise."""

    execution: Execution
    tap_sessions: int
    batching: BatchingLimits
    max_model_bytes: int
    refuse_non_finite: bool
    """Refuse NaN and infinities in the inputs of classifiers; other models may have a use for them."""
    share_threads: bool
    """Give each session fewer threads where there are many."""
    run_timeout_s: float = 60.0
    """How long a run may take."""
    suspects: Annotated[Suspects, Field(exclude=True)] = field(default_factory=Suspects)
    """What is known of crashes; a process that tries a version isn't told."""
    tap_memory: Annotated[TapMemory, Field(exclude=True)] = field(default_factory=TapMemory)
    """What the tap sessions of all models may hold together."""

    def shared_by(self, sessions: int) -> LoadOptions:
        """Return the options for one of this many sessions."""
        if not self.share_threads:
            return self
        threads = min(self.execution.intra_op_threads, 1 + _MOST_POOL_THREADS // max(1, sessions))
        return replace(self, execution=replace(self.execution, intra_op_threads=threads))


@dataclass(frozen=True, slots=True)
class Version:
    """A version to be loaded, and how its model's config.toml wants it."""

    name: str
    number: int
    config: ModelConfig

    @property
    def file(self) -> tuple[str, ...]:
        """The path of its model file below the repository."""
        return self.name, str(self.number), MODEL_FILE


def read_version(
    files: ModelFiles, version: Version, options: LoadOptions, expected: Stamps | None = None
) -> ModelReading:
    """Read a version's model file.

    Raises:
        ModelLoadError: it isn't there, or can't be read.
        FilesChangedError: it isn't as expected.
    """
    reading = ModelReading.begin(files, *version.file, most_bytes=options.max_model_bytes, expected=expected)
    if reading is None:
        raise ModelLoadError(f"{MODEL_FILE} is missing{_another(files, version)}")
    return reading


def _another(files: ModelFiles, version: Version) -> str:
    """Name the only model in a version's folder if it has another name."""
    folder = version.file[:-1]
    with suppress(OSError):
        names = [path[-1] for path in files.visible(*folder) if path[-1].endswith(".onnx")]
        if len(names) == 1 and files.root.joinpath(*folder).resolve().is_relative_to(files.root):
            return f"; rename {names[0]} to it"
    return ""


def load_version(
    data: bytes, version: Version, options: LoadOptions, *, digest: str = "", strict: bool = False
) -> ServedModel:
    """Load a version from its file's bytes and run it once at each size that batches will have.

    Args:
        data: the model as one file.
        version: what it is.
        options: how.
        digest: of the files that it was read of; "": that of the data.
        strict: see below.

    Raises:
        ModelLoadError: it can't be served; with `strict`, also if one of those runs lacks memory.
        DeviceUnavailableError: not on the device that is required.
    """
    config = version.config.of_version(version.number)
    batching = config.batching.over(options.batching)
    try:
        model = _model(data, options, batching, cache=config.cache, digest=digest)
    except ModelLoadError as error:
        raise ModelLoadError(f"{MODEL_FILE} can't be loaded: {error}") from error
    found = Classifier.of(model, config)
    classifier, why_not = (None, found.reason) if isinstance(found, NoClassifier) else (found, "")
    for outputs in ((), *_preloaded(model, config, options.tap_sessions)):
        warm_up(model, outputs, strict=strict)
    finite = classifier is not None and options.refuse_non_finite
    if config.refuse_non_finite is not None:
        finite = config.refuse_non_finite
    return ServedModel(version.name, str(version.number), model, classifier, finite, not_a_classifier=why_not)


def _model(data: bytes, options: LoadOptions, batching: BatchingLimits, *, cache: bool, digest: str) -> Model:
    """Make the model, with one thread for its runs if nobody said how many and they are short.

    Threads that share the work of an operator have to be woken for each. A LeNet gains nothing by them, and
    costs a third more CPU. CPUs are better used by several runs at once.
    """

    watch = run_watch(options.run_timeout_s)

    def model_on(execution: Execution, rows: Rows | None = None) -> Model:
        return Model(
            data,
            execution,
            options.tap_sessions,
            batching,
            tap_memory=options.tap_memory,
            cache=cache,
            watch=watch,
            suspects=options.suspects,
            rows=rows,
            digest=digest,
        )

    several = options.share_threads and options.execution.intra_op_threads > 1
    if several and len(data) <= _SMALL_BYTES:
        model = model_on(replace(options.execution, intra_op_threads=1))
        if shortest_run_s(model) < _SHORT_RUN_S:
            return model
        return model_on(options.execution, model.rows)
    return model_on(options.execution)


def loaded(files: ModelFiles, version: Version, options: LoadOptions, digest: str = "") -> Entry:
    """Read and load a version; whatever goes wrong becomes the reason of the entry.

    Args:
        files: the repository.
        version: what to load.
        options: how.
        digest: of the files that are expected, if it is known.
    """
    try:
        found = read_version(files, version, options).finish()
        if digest not in ("", found.digest):
            raise ModelLoadError(f"{MODEL_FILE} changed while it was being loaded")
        if reason := options.suspects.quarantined.get(found.digest):
            raise ModelLoadError(reason)
        return Entry.ready(load_version(found.data, version, options, digest=found.digest))
    except Exception as error:  # noqa: BLE001 - one file never keeps the others from serving
        return Entry.unavailable(version.name, str(version.number), reason_to_refuse(error, version))


def reason_to_refuse(error: Exception, version: Version) -> str:
    """Tell callers why a version isn't served; what isn't meant for them goes to the log."""
    if isinstance(error, StartupError):
        return str(error)
    _log.error(
        "unexpected error while loading", model=version.name, version=str(version.number), exc_info=error
    )
    return UNEXPECTED


def log_loaded(entry: Entry, **more: object) -> None:
    """Log what became of a version that was to be loaded."""
    about = {"model": entry.name, "version": entry.version, **more}
    if entry.served is None:
        _log.error("model refused", **about, reason=entry.reason)
    else:
        model = entry.served.model
        _log.info("model ready", **about, provider=model.provider, digest=model.digest, **_how(entry.served))


def _how(served: ServedModel) -> Mapping[str, str]:
    """Tell how a model classifies, or why it doesn't."""
    if served.classifier_or_none is None:
        return {"not_a_classifier": served.not_a_classifier}
    head = served.classifier_or_none.head
    return {"output": head.output, "head": head.kind.value, "head_reason": head.reason}


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
