"""Makes what is served follow the folder: changes over to what has come, or refuses it with the reason.

It looks at the state of the files, not at events, so a missed event delays a change and never loses it. What
was refused is tried again when something in its model's folder changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog
from structlog.typing import FilteringBoundLogger

from service.changeover import Outcome
from service.errors import ModelLoadError, ModelNotReadyError, ModelRefusedError, UnknownModelError
from service.folder_view import FolderView, View
from service.loading import LoadOptions, Version, read_version
from service.model_config import ModelConfig, read_model_config
from service.model_data import FilesChangedError, Stamps
from service.model_files import MODEL_FILE, Stamp
from service.repository import Entry, ServedModel
from service.statistics import Change
from service.trial import Trial
from service.unison import Unison

_log: FilteringBoundLogger = structlog.get_logger()

_KEPT = "nothing else in the model's folder can be served, so this version is kept"
_UNLOADED = "unloaded on request; RepositoryModelLoad brings it back"


@dataclass(frozen=True, slots=True)
class _Followed:
    """What a model is served as."""

    config: ModelConfig
    beside: Mapping[str, Stamp]
    """The files that the config was read of."""
    tried: dict[int, Stamps] = field(default_factory=dict)
    """The versions that were loaded or refused, and their files."""
    refused: dict[int, str] = field(default_factory=dict)
    """Why, for those of them that were."""
    digests: dict[int, str] = field(default_factory=dict)
    """Of the files of those that serve."""


class Reconciler:
    """Follows one folder; for one thread.

    Args:
        view: of the folder.
        change_over: changes what is served, in all processes of the port.
        trial: tries a version before the server loads it.
        options: how models are loaded.
        configs: of the models that are served already.
    """

    def __init__(
        self,
        view: FolderView,
        change_over: Unison,
        trial: Trial,
        options: LoadOptions,
        configs: Mapping[str, ModelConfig],
    ) -> None:
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
        self._requested = ""

    def keep_step(self) -> None:
        """Bring processes that have come in another's place to what is served."""
        self._change_over.keep_step()

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
            tried = {n: stamps for n, stamps in followed.tried.items() if n not in followed.refused}
            self._followed[name] = replace(followed, tried=tried)
        self._requested = name
        try:
            problems = self._follow(name)
        finally:
            self._requested = ""
        if problems:
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
        outcomes = [Outcome(int(entry.version), "", _UNLOADED) for entry in entries]
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
        except (FilesChangedError, ModelNotReadyError):  # it will be seen when it has settled again
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
            raise FilesChangedError
        return config

    def _attempt(self, name: str, view: View, config: ModelConfig, former: _Followed | None) -> _Followed:
        """Prepare what a configuration wants of a folder.

        Raises:
            ModelLoadError: it is new, and costs what is served.
        """
        serving = self._change_over.serving(name)
        same = former is not None and config.loads_as(former.config)
        new = _Followed(config, view.beside)
        if former is not None and same:
            _keep_tried(new, former, view, serving)
        while missing := [n for n in _wanted(new, view, serving) if n not in new.tried]:
            for number in missing:
                new.tried[number] = stamps = view.versions.get(number, {})
                current = serving.get(number) if same else None
                try:
                    new.digests[number] = self._prepare(Version(name, number, config), stamps, current)
                except ModelLoadError as error:
                    new.refused[number] = str(error)
                    self._count(name, "refused", str(number), str(error))
        if former is not None and config != former.config:
            _check_config(new, view, serving, same=same)
        return new

    def _prepare(self, version: Version, stamps: Stamps, current: ServedModel | None) -> str:
        """Try a version, and load it beside what serves; return its digest.

        Raises:
            ModelLoadError: it can't be served.
            FilesChangedError: its files aren't these any more.
        """
        reading = read_version(self._view.files(), version, self._options, stamps)
        serving = current.model.digest if current is not None else ""
        if reading.is_alone and reading.finish().digest == serving:
            return serving
        self._change_over.announce(version)
        read: Stamps = {MODEL_FILE: stamps.get(MODEL_FILE)}
        if not (reason := self._trial.refuse(reading, version, self._options)):
            found = reading.finish()
            read, digest = found.stamps, found.digest
            del reading, found  # loading reads anew
            if digest == serving:
                return digest
            if version.name == self._requested:
                self._change_over.release(digest)
            reason = self._change_over.prepare(version, digest)
        folder = (version.name, str(version.number))
        if not self._view.unchanged({(*folder, file): stamp for file, stamp in read.items()}):
            raise FilesChangedError
        if reason:
            raise ModelLoadError(reason)
        self._count(version.name, "loaded", str(version.number))
        return digest

    def _commit(self, name: str, view: View, problem: str = "") -> None:
        """Serve what is followed; all versions are unavailable if nothing could be yet."""
        if (followed := self._followed.get(name)) is None:
            outcomes = [Outcome(number, "", problem) for number in view.versions if problem]
            self._change_over.commit(name, outcomes, {})
            return
        serving = {n: served.model.digest for n, served in self._change_over.serving(name).items()}
        shown = {*_wanted(followed, view, serving), *(followed.refused.keys() & view.versions.keys())}
        digests = {n: serving.get(n, "") if n in followed.refused else followed.digests[n] for n in shown}
        reasons = {n: followed.refused.get(n) or (problem if digests[n] else "") for n in shown}
        if not any(digests.values()):
            digests |= serving
            reasons |= dict.fromkeys(serving, problem or _KEPT)
        outcomes = [Outcome(number, digests[number], reasons[number]) for number in sorted(digests)]
        self._change_over.commit(name, outcomes, followed.config.version_labels)
        for number in serving.keys() - digests.keys():
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
        self._change_over.repository.changes.add(name, change)
        about = {key: text for key, text in (("version", version), ("reason", reason)) if text}
        log = _log.error if reason else _log.info
        log("model changed", model=name, change=change, **about)


def _at_start(entries: Iterable[Entry], view: View, config: ModelConfig) -> _Followed:
    followed = _Followed(config, view.beside)
    for entry in entries:
        number = int(entry.version)
        followed.tried[number] = view.versions.get(number, {})
        if entry.served is not None:
            followed.digests[number] = entry.served.model.digest
        else:
            followed.refused[number] = entry.reason
    return followed


def _keep_tried(new: _Followed, former: _Followed, view: View, serving: Collection[int]) -> None:
    """Leave out versions whose files changed, and those that were dropped in the meantime."""
    for number, stamps in former.tried.items():
        dropped = number not in serving and number not in former.refused
        if view.versions.get(number, {}) == stamps and not dropped:
            new.tried[number] = stamps
            if number in former.refused:
                new.refused[number] = former.refused[number]
            else:
                new.digests[number] = former.digests[number]


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
