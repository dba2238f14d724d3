"""Makes what is served follow the folder: changes over to what has come, or refuses it with the reason.

It looks at the state of the files, not at events, so a missed event delays a change and never loses it. What
was refused is tried again when something in its model's folder changes. It never waits for a trial: a model
of which a version is being tried has a plan, which goes on at each turn as far as is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import structlog
from structlog.typing import FilteringBoundLogger

from service.attempts import Attempt, Attempts, Tried
from service.changeover import Outcome
from service.errors import ModelLoadError, ModelNotReadyError, ModelRefusedError, UnknownModelError
from service.folder_view import FolderView, View
from service.loading import Version
from service.model_config import ModelConfig, read_model_config
from service.model_data import FilesChangedError, Stamps
from service.plan import Plan, Serving
from service.repository import Entry
from service.statistics import Change
from service.unison import Unison

_log: FilteringBoundLogger = structlog.get_logger()

_UNLOADED = "unloaded on request; RepositoryModelLoad brings it back"
_CHANGING = "its files are being changed"


class Reconciler:
    """Follows one folder; for one thread.

    Args:
        view: of the folder.
        change_over: changes what is served, in all processes of the port.
        attempts: tries a version before the server loads it.
        configs: of the models that are served already.
    """

    def __init__(
        self,
        view: FolderView,
        change_over: Unison,
        attempts: Attempts,
        configs: Mapping[str, ModelConfig],
    ) -> None:
        self._view = view
        self._change_over = change_over
        self._attempts = attempts
        self._seen = dict(view.models)
        self._followed = {
            name: _at_start(change_over.repository.entries(name), view.models[name], config)
            for name, config in configs.items()
        }
        self._plans: dict[str, Plan] = {}
        self._problems: dict[str, Sequence[str]] = {}  # of the last change of each model
        self._again: set[str] = set()  # what is followed at the next look, changed or not
        self._changing: set[str] = set()  # those of them whose files were being changed
        self._unloaded: set[str] = set()

    def keep_step(self) -> None:
        """Bring processes that have come in another's place to what is served."""
        self._change_over.keep_step()

    def look(self) -> float | None:
        """Follow what has changed and settled; tell after how many seconds more may have."""
        wait_s = self._view.look()
        for name in sorted({*self._view.models, *self._seen, *self._again}):
            if name in self._again or self._view.models.get(name) != self._seen.get(name):
                self._guarded(name)
        self.go_on()
        if not self._changing:
            return wait_s
        return self._view.settle_s if wait_s is None else min(wait_s, self._view.settle_s)

    def go_on(self) -> None:
        """Go on with the models of which versions are being tried."""
        for name in sorted(self._plans):
            self._guarded(name)

    def load(self, name: str) -> None:
        """Begin to follow a model's folder now, settled or not; what was refused is tried again.

        Raises:
            UnknownModelError: there is no such model.
            ModelNotReadyError: the model repository is gone.
        """
        self._view.look_at(name)
        if name not in self._view.models:
            raise UnknownModelError(f'the model repository holds no model "{name[:100]}"')
        self._unloaded.discard(name)
        self._drop(name)
        if (followed := self._followed.get(name)) is not None:
            for number in [n for n, attempt in followed.attempts.items() if attempt.refused]:
                del followed.attempts[number]
        self._follow(name, requested=True)

    def met(self, name: str) -> bool:
        """Tell whether a request to load a model is met; False while its versions are being tried.

        Raises:
            ModelRefusedError: it can't be served as its folder says.
        """
        if name in self._plans:
            return False
        if problems := self._problems.get(name):
            raise ModelRefusedError(f'model "{name}": {"; ".join(problems)}')
        return True

    def unload(self, name: str) -> None:
        """Take a model away until it is loaded on request.

        Raises:
            UnknownModelError: there is no such model.
        """
        entries = self._change_over.repository.entries(name) if name else []
        if not entries:
            raise UnknownModelError(f'there is no model "{name[:100]}"')
        self._unloaded.add(name)
        self._drop(name)
        self._followed.pop(name, None)
        self._problems[name] = ("it was unloaded",)
        outcomes = [Outcome(int(entry.version), "", _UNLOADED) for entry in entries]
        self._change_over.commit(name, outcomes, {})
        self._count(name, "removed")

    def _guarded(self, name: str) -> None:
        """Follow a model; whatever goes wrong with it, the others are followed."""
        try:
            self._follow(name)
        except Exception:  # noqa: BLE001 - the next look may do better; the log tells what it was
            _log.exception("unexpected error while following a model", model=name)
            self._wait_for_change(name, "unexpected error; the server's log says why")

    def _follow(self, name: str, *, requested: bool = False) -> None:
        """Change a model over to its folder, as far as is known."""
        self._changing.discard(name)
        self._again.discard(name)
        if (view := self._view.models.get(name)) is None:
            self._remove(name)
            return
        self._seen[name] = view
        if name in self._unloaded:
            return
        try:
            plan = self._plans.get(name)
            if plan is None or plan.view != view:
                plan = self._begin(name, view, plan, requested=requested)
            if plan is not None:
                self._advance(name, plan)
        except (FilesChangedError, ModelNotReadyError):  # it will be seen when it has settled again
            self._changing.add(name)
            self._wait_for_change(name, _CHANGING)

    def _begin(self, name: str, view: View, going: Plan | None, *, requested: bool) -> Plan | None:
        """Make the plan of a folder; None if its config.toml is wrong and nothing was served before.

        Raises:
            FilesChangedError: it isn't as it was seen.
        """
        former = self._followed.get(name)
        requested = requested or (going is not None and going.requested)
        try:
            plan = Plan(view, self._read_config(name, view, former), view.beside, requested=requested)
        except ModelLoadError as error:
            self._refuse_config(name, str(error))
            if former is None:
                self._drop(name)
                self._problems[name] = (str(error),)
                outcomes = [Outcome(number, "", str(error)) for number in view.versions]
                self._change_over.commit(name, outcomes, {})
                return None
            plan = self._on_with(former, view, str(error), requested=requested)
        if going is not None:
            plan.keep(going)
            going.end_trials(list(plan.attempts.values()))
        if former is not None:
            plan.keep(former, self._serving(name))
        self._plans[name] = plan
        return plan

    def _on_with(self, former: Plan, view: View, problem: str, *, requested: bool) -> Plan:
        """Make a plan by the former configuration; the folder's is looked at next time."""
        return Plan(view, former.config, former.beside, problem=problem, requested=requested)

    def _read_config(self, name: str, view: View, former: Plan | None) -> ModelConfig:
        if former is not None and former.beside == view.beside:
            return former.config
        config = read_model_config(self._view.files(), name)
        if not self._view.unchanged({(name, file): stamp for file, stamp in view.beside.items()}):
            raise FilesChangedError
        return config

    def _advance(self, name: str, plan: Plan) -> None:
        """Go on until a trial has to be waited for, or all is decided and served.

        Raises:
            FilesChangedError: files aren't as they were seen.
        """
        former = self._followed.get(name)
        while True:
            if not self._try(name, plan, former):
                self._show(name, plan)
                return
            if not self._load(name, plan, former):
                continue
            if former is None or plan.config == former.config:
                break
            try:
                plan.check_config(self._serving(name), same=plan.config.loads_as(former.config))
                self._count(name, "config_applied")
                break
            except ModelLoadError as error:
                self._refuse_config(name, str(error))
                tried, plan = plan, self._on_with(former, plan.view, str(error), requested=plan.requested)
                plan.keep(tried)
                plan.keep(former, self._serving(name))
                self._plans[name] = plan
        self._commit(name, plan)

    def _try(self, name: str, plan: Plan, former: Plan | None) -> bool:
        """Try what the plan wants, one version at a time; tell whether all is decided."""
        serving = self._serving(name)
        same = former is not None and plan.config.loads_as(former.config)
        while undecided := plan.undecided(serving):
            plan.leave_out(undecided)
            for number in undecided:
                self._expect(name, number, plan.view.versions.get(number, {}))
            number = next((n for n in undecided if n in plan.attempts), undecided[0])
            attempt = plan.attempts.setdefault(number, Attempt(plan.view.versions.get(number, {})))
            if attempt.trial is None:
                version = Version(name, number, plan.config)
                attempt.trial = self._attempts.begin(
                    version, attempt.stamps, serving.get(number, "") if same else ""
                )
            if not attempt.trial.done():
                return False
            try:
                attempt.tried = attempt.trial.result()
            except ModelLoadError as error:
                self._refuse(name, number, attempt, str(error))
        return True

    def _load(self, name: str, plan: Plan, former: Plan | None) -> bool:
        """Load what passed beside what serves; tell whether all of it could be."""
        serving = self._serving(name)
        same = former is not None and plan.config.loads_as(former.config)
        for number, attempt in plan.passed(serving).items():
            tried = attempt.tried or Tried("", {})
            if same and serving.get(number) == tried.digest:
                continue
            if plan.requested:
                self._change_over.release(tried.digest)
            reason = self._change_over.prepare(Version(name, number, plan.config), tried.digest)
            self._expect(name, number, tried.stamps)
            if reason:
                self._refuse(name, number, attempt, reason)
                return False
        return True

    def _expect(self, name: str, number: int, stamps: Stamps) -> None:
        folder = (name, str(number))
        if not self._view.unchanged({(*folder, file): stamp for file, stamp in stamps.items()}):
            raise FilesChangedError

    def _show(self, name: str, plan: Plan) -> None:
        """Tell which versions are being loaded, while the plan waits."""
        serving = self._serving(name)
        wanted = [n for n in plan.wanted(serving) if n not in serving]
        loading = [n for n in wanted if not ((attempt := plan.attempts.get(n)) and attempt.refused)]
        outcomes = self._show_meanwhile(name, plan.view, serving)
        by_number = {outcome.version: outcome for outcome in outcomes} | {n: Outcome(n, "") for n in loading}
        for number, attempt in plan.attempts.items():
            if attempt.refused and number in plan.view.versions:
                by_number[number] = Outcome(number, serving.get(number, ""), attempt.refused)
        shown = [by_number[number] for number in sorted(by_number)]
        if shown != plan.shown:
            plan.shown = shown
            self._change_over.show(name, shown, self._labels(name))

    def _show_meanwhile(self, name: str, view: View, serving: Serving) -> Sequence[Outcome]:
        followed = self._followed.get(name)
        return followed.meanwhile(view, serving) if followed is not None else ()

    def _labels(self, name: str) -> Mapping[str, int]:
        followed = self._followed.get(name)
        return followed.config.version_labels if followed is not None else {}

    def _wait_for_change(self, name: str, problem: str) -> None:
        """Leave a model as it is; it is followed again when it is looked at next."""
        self._again.add(name)
        view = self._seen.pop(name, View())
        self._drop(name)
        self._problems[name] = (problem,)
        outcomes = self._show_meanwhile(name, view, self._serving(name))
        self._change_over.commit(name, outcomes, self._labels(name))

    def _commit(self, name: str, plan: Plan) -> None:
        """Serve what is decided."""
        serving = self._serving(name)
        outcomes = plan.outcomes(serving)
        self._change_over.commit(name, outcomes, plan.config.version_labels)
        for outcome in outcomes:
            if outcome.digest not in ("", serving.get(outcome.version)):
                self._count(name, "loaded", str(outcome.version))
        for number in serving.keys() - {outcome.version for outcome in outcomes}:
            self._count(name, "removed", str(number))
        self._followed[name] = self._plans.pop(name)
        refused = {n: attempt.refused for n, attempt in plan.attempts.items() if attempt.refused}
        problems = [f"version {number}: {reason}" for number, reason in sorted(refused.items())]
        self._problems[name] = (plan.problem,) if plan.problem else problems

    def _remove(self, name: str) -> None:
        self._drop(name)
        self._seen.pop(name, None)
        self._followed.pop(name, None)
        self._unloaded.discard(name)
        self._problems[name] = ("it was removed",)
        self._change_over.commit(name, [], {})
        self._count(name, "removed")

    def _drop(self, name: str) -> None:
        if (plan := self._plans.pop(name, None)) is not None:
            plan.end_trials()

    def _refuse(self, name: str, number: int, attempt: Attempt, reason: str) -> None:
        attempt.tried, attempt.refused = None, reason
        self._count(name, "refused", str(number), reason)

    def _refuse_config(self, name: str, reason: str) -> None:
        self._change_over.abort(name)
        self._count(name, "config_refused", reason=reason)

    def _serving(self, name: str) -> Serving:
        return {n: served.model.digest for n, served in self._change_over.serving(name).items()}

    def _count(self, name: str, change: Change, version: str = "", reason: str = "") -> None:
        self._change_over.repository.changes.add(name, change)
        about = {key: text for key, text in (("version", version), ("reason", reason)) if text}
        log = _log.error if reason else _log.info
        log("model changed", model=name, change=change, **about)


def _at_start(entries: Iterable[Entry], view: View, config: ModelConfig) -> Plan:
    plan = Plan(view, config, view.beside)
    for entry in entries:
        number = int(entry.version)
        stamps = view.versions.get(number, {})
        passed = Tried(entry.served.model.digest, stamps) if entry.served is not None else None
        plan.attempts[number] = Attempt(stamps, tried=passed, refused="" if passed else entry.reason)
    return plan
