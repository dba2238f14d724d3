"""Following a folder while trials come to all kinds of ends, with parts that the test decides about."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from service.attempts import Attempts, Going, Tried
from service.changeover import ChangeOver
from service.errors import ModelLoadError, ModelRefusedError
from service.folder_view import FolderView, View
from service.loading import LoadOptions, Version
from service.model import Model
from service.model_config import ModelConfig
from service.model_data import FilesChangedError, Stamps
from service.model_files import MODEL_FILE, ModelFiles, Stamp
from service.peers import Alone
from service.reconciler import Reconciler
from service.repository import Entry, Repository, ServedModel, State
from service.start_up import Started
from service.unison import Unison
from tests.service.live.test_trial import OPTIONS

NAMES = ("first", "second")
CONFIG = "config.toml"


def stamp(content: int) -> Stamp:
    return Stamp(1, content, 1, 1, 1)


class Folder:
    """A view whose files are numbers: they are there at once, and count when they settle."""

    settle_s = 1.0

    def __init__(self) -> None:
        self.there: dict[str, dict[int, int]] = {}
        self.configs: dict[str, tuple[int, str]] = {}
        self.models: dict[str, View] = {}

    def look(self) -> float | None:
        return None

    def settle(self) -> None:
        self.models = {
            name: View(
                {CONFIG: stamp(self.configs[name][0])} if name in self.configs else {},
                {n: {MODEL_FILE: stamp(content)} for n, content in sorted(versions.items())},
            )
            for name, versions in self.there.items()
        }

    def look_at(self, name: str) -> None:
        self.settle()

    def files(self) -> Folder:
        return self

    def read(self, name: str, *path: str, most_bytes: int) -> bytes | None:
        return self.configs[name][1].encode() if name in self.configs and path == (CONFIG,) else None

    def versions(self, name: str) -> list[int]:
        return sorted(self.there.get(name, {}))

    def unchanged(self, paths: Stamps) -> bool:
        return all(self._stamp(*path) == stamp for path, stamp in paths.items())

    def _stamp(self, name: str, *path: str) -> Stamp | None:
        content = self.there.get(name, {}).get(int(path[0])) if len(path) > 1 else None
        if path == (CONFIG,) and name in self.configs:
            content = self.configs[name][0]
        return None if content is None else stamp(content)


class Trials:
    """Trials that end as the test says; a version's digest is the content of its file."""

    def __init__(self) -> None:
        self.going: list[tuple[Version, Stamps, Going]] = []

    def begin(self, version: Version, stamps: Stamps, serving: str) -> Going:
        self.going.append((version, stamps, Going(Future())))
        return self.going[-1][2]

    def open(self) -> list[tuple[Version, Stamps, Going]]:
        return [one for one in self.going if not one[2].done() and not one[2].unwanted.done()]

    @staticmethod
    def end(stamps: Stamps, going: Going, error: Exception | None = None) -> None:
        file = stamps.get(MODEL_FILE)
        if error is None and file is None:
            error = ModelLoadError("model.onnx is missing")
        if error is not None:
            going.outcome.set_exception(error)
        elif file is not None:
            going.outcome.set_result(Tried(str(file.inode), stamps))


def loaded(files: ModelFiles, version: Version, options: LoadOptions, digest: str = "") -> Entry:
    model = cast("Model", FakeModel(digest))
    return Entry.ready(ServedModel(version.name, str(version.number), model, None, finite=False))


class FakeModel:
    provider = "none"

    def __init__(self, digest: str) -> None:
        self.digest = digest


class World:
    """A reconciler of two models, "first" and "second", each with version 1 serving."""

    def __init__(self, root: Path) -> None:
        self.folder, self.trials, self.repository = Folder(), Trials(), Repository()
        self.contents = 0
        for name in NAMES:
            self.put(name, 1)
            self.repository.publish([Entry.loading(name, "1")])
            digest = str(self.folder.there[name][1])
            entry = loaded(cast("Any", None), Version(name, 1, ModelConfig()), OPTIONS, digest)
            self.repository.publish([entry])
        self.folder.settle()
        configs = dict.fromkeys(NAMES, ModelConfig())
        started = Started(root, OPTIONS, self.repository, {}, configs)
        unison = Unison(Alone(), ChangeOver(started, lambda displaced: None))
        view, attempts = cast("FolderView", self.folder), cast("Attempts", self.trials)
        self.reconciler = Reconciler(view, unison, attempts, configs)

    def put(self, name: str, number: int) -> None:
        self.contents += 1
        self.folder.there.setdefault(name, {})[number] = self.contents

    def configure(self, name: str, text: str) -> None:
        self.contents += 1
        self.folder.configs[name] = (self.contents, text)

    def turn(self, *, settled: bool = True) -> None:
        if settled:
            self.folder.settle()
        self.reconciler.look()

    def end(self, error: Exception | None = None, at: int = 0) -> None:
        _, stamps, going = self.trials.open()[at]
        self.trials.end(stamps, going, error)

    def shown(self, name: str = "first") -> dict[str, State]:
        return {entry.version: entry.state for entry in self.repository.entries(name)}

    def digest(self, name: str) -> str:
        return self.repository.get(name).model.digest


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("service.changeover.loaded", loaded)
    return World(tmp_path)


READY, LOADING, UNAVAILABLE = State.READY, State.LOADING, State.UNAVAILABLE


def test_a_version_is_shown_as_loading_while_it_is_tried(world: World) -> None:
    world.put("first", 2)
    world.turn()
    assert world.shown() == {"1": READY, "2": LOADING}
    world.end()
    world.turn()
    assert world.shown() == {"2": READY}


@pytest.mark.parametrize("settled", [True, False])
def test_a_version_that_goes_during_its_trial_is_shown_no_more(world: World, settled: bool) -> None:
    world.put("first", 2)
    world.turn()
    del world.folder.there["first"][2]
    world.turn(settled=settled)
    assert world.shown() == {"1": READY}
    assert world.trials.open() == []


@pytest.mark.parametrize("noticed_by_the_trial", [True, False])
def test_a_version_that_changes_during_its_trial_is_tried_anew(
    world: World, noticed_by_the_trial: bool
) -> None:
    world.put("first", 2)
    world.turn()
    if noticed_by_the_trial:
        world.end(FilesChangedError())
    world.put("first", 2)
    world.turn(settled=False)
    assert world.shown() == {"1": READY}
    world.turn()
    assert world.shown() == {"1": READY, "2": LOADING}
    world.end()
    world.turn()
    assert world.shown() == {"2": READY}
    assert world.digest("first") == str(world.folder.there["first"][2])


def test_a_trial_that_hangs_keeps_no_other_model_waiting(world: World) -> None:
    world.put("first", 2)
    world.turn()
    world.put("second", 2)
    world.turn()
    world.end(at=1)
    world.turn()
    assert world.shown("second") == {"2": READY}
    del world.folder.there["second"]
    world.turn()
    assert world.shown("second") == {}
    assert world.shown() == {"1": READY, "2": LOADING}


def test_a_model_whose_files_can_not_be_followed_keeps_no_other_waiting(world: World) -> None:
    for name in NAMES:
        world.put(name, 2)
    world.turn()
    world.end(RuntimeError("unforeseen"))
    world.end()
    world.turn()
    assert world.shown("first") == {"1": READY}
    assert world.shown("second") == {"2": READY}


def test_the_version_before_serves_on_until_another_has_passed(world: World) -> None:
    world.put("first", 2)
    world.turn()
    world.end()
    world.turn()
    del world.folder.there["first"][2]
    world.turn()
    assert world.shown() == {"1": LOADING, "2": READY}
    world.end()
    world.turn()
    assert world.shown() == {"1": READY}


def test_labels_move_when_what_they_name_has_passed(world: World) -> None:
    world.put("first", 2)
    world.configure("first", "[version_labels]\nstable = 2\nold = 1\n")
    world.turn()
    assert (world.repository.get("first").version, world.repository.labels("first")) == ("1", {})
    world.end()
    world.turn()
    assert world.repository.get("first").version == "2"
    world.configure("first", "[version_labels]\nstable = 1\n")
    world.put("first", 3)
    world.turn()
    assert world.repository.get("first").version == "2"
    world.end(ModelLoadError("bad"))
    world.turn()
    assert world.repository.get("first").version == "1"
    assert world.shown() == {"1": READY, "2": READY, "3": UNAVAILABLE}


def test_a_request_is_met_when_the_trial_is_over(world: World) -> None:
    world.put("first", 2)
    world.reconciler.load("first")
    assert not world.reconciler.met("first")
    world.end(ModelLoadError("bad"))
    world.reconciler.go_on()
    with pytest.raises(ModelRefusedError, match='model "first": version 2: bad'):
        world.reconciler.met("first")
    world.reconciler.load("first")
    world.end()
    world.reconciler.go_on()
    assert world.reconciler.met("first")


def test_a_model_that_is_unloaded_during_a_trial_stays_so(world: World) -> None:
    world.put("first", 2)
    world.turn()
    world.reconciler.unload("first")
    world.turn()
    assert world.shown() == {"1": UNAVAILABLE, "2": UNAVAILABLE}
    assert world.trials.open() == []


MODELS, VERSIONS = st.sampled_from(NAMES), st.integers(1, 3)


class Interleavings(RuleBasedStateMachine):
    """Files come, change and go, trials succeed, fail, hang and see changed files, in any order."""

    @initialize()
    def begin(self) -> None:
        self.patched = patch("service.changeover.loaded", loaded)
        self.patched.start()
        self.world = World(Path(__file__).parent)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                self.converge()
            finally:
                self.patched.stop()

    @rule(name=MODELS, number=VERSIONS)
    def put(self, name: str, number: int) -> None:
        self.world.put(name, number)

    @rule(name=MODELS, number=VERSIONS)
    def remove(self, name: str, number: int) -> None:
        versions = self.world.folder.there.get(name, {})
        if len(versions) > 1:
            versions.pop(number, None)

    @rule(name=MODELS)
    def remove_model(self, name: str) -> None:
        self.world.folder.there.pop(name, None)
        self.world.folder.configs.pop(name, None)

    @rule(
        name=MODELS,
        text=st.sampled_from(
            ["", "versions.all = true", "versions.latest = 2", "version_labels.stable = 2", "wrong"]
        ),
    )
    def configure(self, name: str, text: str) -> None:
        if name in self.world.folder.there:
            self.world.configure(name, text)

    @rule(settled=st.booleans())
    def turn(self, settled: bool) -> None:
        before = {name: self._serves(name) for name in NAMES}
        self.world.turn(settled=settled)
        for name, served in before.items():
            assert not served or self._serves(name) or name not in self.world.folder.models

    @rule(data=st.data(), error=st.sampled_from([None, None, ModelLoadError("bad"), FilesChangedError()]))
    def end_a_trial(self, data: st.DataObject, error: Exception | None) -> None:
        if count := len(self.world.trials.open()):
            self.world.end(error, data.draw(st.integers(0, count - 1)))

    @invariant()
    def nothing_is_tried_twice_at_once(self) -> None:
        if hasattr(self, "world"):
            tried = [version.name for version, _, _ in self.world.trials.open()]
            assert len(tried) == len(set(tried))

    @invariant()
    def what_is_loading_is_being_tried(self) -> None:
        if hasattr(self, "world"):
            for name in NAMES:
                if LOADING in self.world.shown(name).values():
                    assert any(v.name == name for v, _, going in self.world.trials.going if going)

    def converge(self) -> None:
        """With the folder left alone, and trials that pass, all is as the folder says."""
        world = self.world
        for _ in range(20):
            world.turn()
            for _, stamps, going in world.trials.open():
                world.trials.end(stamps, going)
        world.turn()
        assert world.trials.open() == []
        for name in NAMES:
            here = world.folder.there.get(name, {})
            shown = world.shown(name)
            assert LOADING not in shown.values()
            assert bool(shown) == bool(here)
            for entry in world.repository.entries(name):
                if entry.served is not None and not entry.reason:
                    assert entry.served.model.digest == str(here[int(entry.version)])

    def _serves(self, name: str) -> bool:
        return READY in self.world.shown(name).values()


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
