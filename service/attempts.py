"""Tries versions on threads of its own, so that one that takes long keeps nobody else waiting."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from service.errors import ModelLoadError
from service.folder_view import FolderView
from service.loading import LoadOptions, Version, read_version
from service.model_data import Stamps
from service.model_files import MODEL_FILE
from service.trial import Trial

_SIDE_BY_SIDE = 2
"""Trials at a time: one that hangs leaves the others a place. Each may take the memory of a trial."""


class Tried(NamedTuple):
    """A version that passed its trial."""

    digest: str
    stamps: Stamps
    """Of the files that were read."""


@dataclass(frozen=True, slots=True)
class Going:
    """A trial that is to come, going on or over."""

    outcome: Future[Tried]
    unwanted: Future[None] = field(default_factory=Future)

    def done(self) -> bool:
        """Tell whether it is over."""
        return self.outcome.done()

    def result(self) -> Tried:
        """Return what came of it, once it is over.

        Raises:
            ModelLoadError: The version can't be served.
            FilesChangedError: Its files aren't as they were seen.
            ModelNotReadyError: The model repository is gone.
        """
        return self.outcome.result()

    def drop(self) -> None:
        """End it: nobody asks for its result any more."""
        if not self.unwanted.done():
            self.unwanted.set_result(None)


@dataclass(slots=True)
class Attempt:
    """The files of one version, and what came of them."""

    stamps: Stamps
    trial: Going | None = None
    tried: Tried | None = None
    """What passed, if it did."""
    refused: str = ""
    """Why it can't be served, if so."""

    @property
    def decided(self) -> bool:
        """Whether it is known what came of it."""
        return self.tried is not None or bool(self.refused)


class Attempts:
    """Begins trials.

    Args:
        view: of the folder with the versions.
        trial: loads a version in a process of its own.
        options: how models are loaded.
        wake: called when a trial is over, on any thread.
    """

    def __init__(
        self, view: FolderView, trial: Trial, options: LoadOptions, wake: Callable[[], None]
    ) -> None:
        self._view = view
        self._trial = trial
        self._options = options
        self._wake = wake
        self._threads = ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="trial")

    def begin(self, version: Version, stamps: Stamps, serving: str) -> Going:
        """Try a version; its files are read when its turn has come.

        Args:
            version: what to try.
            stamps: its files, as they were seen.
            serving: digest of those that serve as it already, which pass without a trial; "" if none do.
        """
        unwanted: Future[None] = Future()
        going = Going(self._threads.submit(self._try, version, stamps, serving, unwanted), unwanted)
        going.outcome.add_done_callback(lambda _: self._wake())
        return going

    def close(self) -> None:
        """End all trials; no other begins."""
        self._trial.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _try(self, version: Version, stamps: Stamps, serving: str, unwanted: Future[None]) -> Tried:
        if unwanted.done():
            raise ModelLoadError("nobody waits for it any more")
        reading = read_version(self._view.files(), version, self._options, stamps)
        if reading.is_alone and reading.finish().digest == serving:
            return Tried(serving, {MODEL_FILE: stamps.get(MODEL_FILE)})
        if reason := self._trial.refuse(reading, version, self._options, unwanted):
            raise ModelLoadError(reason)
        found = reading.finish()
        return Tried(found.digest, found.stamps)
