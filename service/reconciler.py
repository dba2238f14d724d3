"""Makes what is served follow the folder: changes over to what has come, or refuses it with the reason.

It looks at the state of the files, not at events, so a missed event delays a change and never loses it. What
was refused is tried again when something in its model's folder changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog
from structlog.typing import FilteringBoundLogger

from service.changeover import ChangeOver, Outcome
from service.errors import ModelLoadError, ModelNotReadyError, ModelRefusedError, UnknownModelError
from service.folder_view import FolderView, View
from service.loading import LoadOptions, Version, read_version
from service.model_config import ModelConfig, read_model_config
from service.model_files import MODEL_FILE, Stamp
from service.repository import Entry, ServedModel, State
from service.statistics import Change, ChangeCounts
from service.trial import Trial

_log: FilteringBoundLogger = structlog.get_logger()

_KEPT = "nothing else in the model's folder can be served, so this version is kept"
_UNLOADED = "unloaded on request; RepositoryModelLoad brings it back"


@dataclass(frozen=True, slots=True)
class _Followed:
    """What a model is served as."""

    config: ModelConfig
    beside: Mapping[str, Stamp]
    """The files that the config was read of."""
    tried: dict[int, Stamp | None]
    """The versions that were loaded or refused, and their files."""
    refused: dict[int, str]
    """Why, for those of them that were."""


class _ChangedError(Exception):
    """A file isn't what it was when it was seen."""


class Reconciler:
    """Follows one folder; for one thread.

    Attributes:
        counts: how often models were changed.

    Args:
        view: of the folder.
        change_over: changes what is served.
        trial: tries a version before the server loads it.
        options: how models are loaded.
        configs: of the models that are served already.
    """

    def __init__(
        self,
        view: FolderView,
        change_over: ChangeOver,
        trial: Trial,
        options: LoadOptions,
        configs: Mapping[str, ModelConfig],
    ) -> None:
        self.counts = ChangeCounts()
        self._view = view
        self._change_over = change_over
        self._trial = trial
        self._options = options
        self._seen = dict(view.models)
        self._followed = {
            name: _at_start(change_over.repository.entries(name), view.models[name], config)
            for name, config in configs.items()
        }
        self._unloaded: set[str] = set()

    def look(self) -> float | None:
        """Follow what has changed and settled; tell after how many seconds more may have."""
        wait_s = self._view.look()
        for name in sorted({*self._view.models, *self._seen}):
            if self._view.models.get(name) != self._seen.get(name):
                self._follow(name)
        return wait_s

    def load(self, name: str) -> None:
        """Follow a model's folder now, settled or not; what was refused is tried again.

        Raises:
            UnknownModelError: there is no such model.
            ModelNotReadyError: the model repository is gone.
            ModelRefusedError: it can't be served as its folder says.
        """
        self._view.look_at(name)
        if name not in self._view.models:
            raise UnknownModelError(f'the model repository holds no model "{name[:100]}"')
        self._unloaded.discard(name)
        if (followed := self._followed.get(name)) is not None:
            tried = {n: stamp for n, stamp in followed.tried.items() if n not in followed.refused}
            self._followed[name] = replace(followed, tried=tried)
        if problems := self._follow(name):
            raise ModelRefusedError(f'model "{name}": {"; ".join(problems)}')

    def unload(self, name: str) -> None:
        """Take a model away until it is loaded on request.

        Raises:
            UnknownModelError: there is no such model.
        """
        entries = self._change_over.repository.entries(name) if name else []
        if not entries:
            raise UnknownModelError(f'there is no model "{name[:100]}"')
        self._unloaded.add(name)
        self._followed.pop(name, None)
        outcomes = [Outcome(int(entry.version), False, _UNLOADED) for entry in entries]
        self._change_over.commit(name, outcomes, {})
        self._count(name, "removed")

    def _follow(self, name: str) -> Sequence[str]:
        """Change a model over to its folder; tell what of it was refused."""
        if (view := self._view.models.get(name)) is None:
            self._remove(name)
            return ()
        self._seen[name] = view
        if name in self._unloaded:
            return ()
        try:
            return self._change(name, view)
        except (_ChangedError, ModelNotReadyError):  # it will be seen when it has settled again
            del self._seen[name]
            self._change_over.abort(name)
            self._commit(name, view)
            return ("its files are being changed",)

    def _change(self, name: str, view: View) -> Sequence[str]:
        former = self._followed.get(name)
        try:
            config = self._read_config(name, view, former)
            self._followed[name] = self._attempt(name, view, config, former)
        except ModelLoadError as error:
            self._refuse_config(name, str(error))
            if former is not None:  # its config holds on, and is compared with the folder's next time
                self._followed[name] = replace(
                    self._attempt(name, view, former.config, former), beside=former.beside
                )
            self._commit(name, view, str(error))
            return (str(error),)
        if former is not None and config != former.config:
            self._count(name, "config_applied")
        self._commit(name, view)
        return [f"version {number}: {reason}" for number, reason in self._followed[name].refused.items()]

    def _read_config(self, name: str, view: View, former: _Followed | None) -> ModelConfig:
        if former is not None and former.beside == view.beside:
            return former.config
        config = read_model_config(self._view.files(), name)
        if not self._view.unchanged({(name, file): stamp for file, stamp in view.beside.items()}):
            raise _ChangedError
        return config

    def _attempt(self, name: str, view: View, config: ModelConfig, former: _Followed | None) -> _Followed:
        """Prepare what a configuration wants of a folder.

        Raises:
            ModelLoadError: it is new, and costs what is served.
        """
        serving = self._change_over.serving(name)
        same = former is not None and config.loads_as(former.config)
        new = _Followed(
            config, view.beside, *(_still_tried(former, view, serving) if former and same else ({}, {}))
        )
        while missing := [n for n in _wanted(new, view, serving) if n not in new.tried]:
            for number in missing:
                new.tried[number] = stamp = view.versions.get(number)
                current = serving.get(number) if same else None
                if reason := self._prepare(Version(name, number, config), stamp, current):
                    new.refused[number] = reason
        if former is not None and config != former.config:
            _check_config(new, view, serving, same=same)
        return new

    def _prepare(self, version: Version, stamp: Stamp | None, current: ServedModel | None) -> str:
        """Try a version and load it beside what serves; tell why it can't be."""
        path = (version.name, str(version.number), MODEL_FILE)
        try:
            if not self._view.unchanged({path: stamp}):
                raise _ChangedError
            data = read_version(self._view.files(), version, self._options)
            digest = hashlib.sha256(data).hexdigest()
            if current is not None and current.model.digest == digest:
                return ""
            self._change_over.announce(version)
            reason = self._trial.refuse(data, version, self._options)
            del data
            reason = reason or self._change_over.prepare(self._view.files(), version, digest)
        except ModelLoadError as error:
            reason = str(error)
        if not self._view.unchanged({path: stamp}):
            raise _ChangedError
        self._count(version.name, "refused" if reason else "loaded", str(version.number), reason)
        return reason

    def _commit(self, name: str, view: View, problem: str = "") -> None:
        """Serve what is followed; all versions are unavailable if nothing could be yet."""
        if (followed := self._followed.get(name)) is None:
            outcomes = [Outcome(number, False, problem) for number in view.versions if problem]
            self._change_over.commit(name, outcomes, {})
            return
        serving = self._change_over.serving(name)
        shown = {*_wanted(followed, view, serving), *(followed.refused.keys() & view.versions.keys())}
        outcomes = [
            Outcome(number, serves, followed.refused.get(number) or (problem if serves else ""))
            for number in sorted(shown)
            for serves in [number in serving or number not in followed.refused]
        ]
        if not any(outcome.serves for outcome in outcomes):
            outcomes += [Outcome(number, True, problem or _KEPT) for number in serving]
        self._change_over.commit(name, outcomes, followed.config.version_labels)
        for number in serving.keys() - {outcome.version for outcome in outcomes}:
            self._count(name, "removed", str(number))

    def _remove(self, name: str) -> None:
        self._seen.pop(name, None)
        self._followed.pop(name, None)
        self._unloaded.discard(name)
        self._change_over.commit(name, [], {})
        self._count(name, "removed")

    def _refuse_config(self, name: str, reason: str) -> None:
        self._change_over.abort(name)
        self._count(name, "config_refused", reason=reason)

    def _count(self, name: str, change: Change, version: str = "", reason: str = "") -> None:
        self.counts.add(name, change)
        about = {key: text for key, text in (("version", version), ("reason", reason)) if text}
        log = _log.error if reason else _log.info
        log("model changed", model=name, change=change, **about)


def _at_start(entries: Iterable[Entry], view: View, config: ModelConfig) -> _Followed:
    states = {int(entry.version): entry for entry in entries}
    return _Followed(
        config,
        view.beside,
        tried={number: view.versions.get(number) for number in states},
        refused={n: entry.reason for n, entry in states.items() if entry.state is State.UNAVAILABLE},
    )


def _still_tried(
    former: _Followed, view: View, serving: Collection[int]
) -> tuple[dict[int, Stamp | None], dict[int, str]]:
    """Leave out versions whose files changed, and those that were dropped in the meantime."""
    tried = {
        number: stamp
        for number, stamp in former.tried.items()
        if view.versions.get(number) == stamp and (number in serving or number in former.refused)
    }
    return tried, {n: reason for n, reason in former.refused.items() if n in tried}


def _wanted(followed: _Followed, view: View, serving: Collection[int]) -> Sequence[int]:
    """Choose the versions to serve: a version that was replaced by one that is refused serves on."""
    refused = [number for number in followed.refused if number not in serving]
    return followed.config.wanted(list(view.versions), refused)


def _check_config(new: _Followed, view: View, serving: Collection[int], *, same: bool) -> None:
    wanted = _wanted(new, view, serving)
    for number, reason in new.refused.items():
        labelled = number in new.config.version_labels.values() and number not in serving
        if labelled or (number in wanted and number in serving and not same):
            raise ModelLoadError(f"config.toml: version {number} can't be served with it: {reason}")
    if serving and not any(number in serving or number not in new.refused for number in wanted):
        raise ModelLoadError("config.toml: no version that it wants can be served")
