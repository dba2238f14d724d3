"""Processes that serve one repository, all of them in this one: they change over together or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from service.batching_limits import BatchingLimits
from service.changeover import ChangeOver, Outcome
from service.channel import JSON
from service.device import Execution
from service.loading import LoadOptions, Version
from service.model_config import ModelConfig
from service.peers import QUARANTINE, SERVED, Alone, Census, Peers
from service.repository import Repository, State
from service.start_up import load_models
from service.suspects import Suspects
from service.unison import Unison, known_to
from tests.service import onnx_models
from tests.service.live.repositories import put

OPTIONS = LoadOptions(Execution(), 4, BatchingLimits(), 10**6, refuse_non_finite=True, share_threads=True)


class Group(Peers):
    """One of several processes; each asks the others directly."""

    def __init__(self, members: list[Group]) -> None:
        super().__init__(2)
        self.members = members
        members.append(self)
        self.silent = 0

    def join(self) -> None: ...

    def ask_all(self, question: str, argument: JSON = None, timeout_s: float = 0.0) -> list[JSON]:
        return [member.own_answer(question, argument) for member in self.members]

    def census(self) -> Census:
        return Census(alive=len(self.members) + self.silent, wanted=2, restarts=0)

    def release(self, digest: str) -> None: ...


def process(folder: Path, members: list[Group]) -> tuple[Unison, Repository]:
    started = load_models(folder, replace(OPTIONS, suspects=Suspects()))
    return Unison(Group(members), ChangeOver(started, lambda displaced: None)), started.repository


def told(folder: Path, number: int) -> tuple[Version, str]:
    """Return a version and the digest of its file."""
    data = (folder / "tiny" / str(number) / "model.onnx").read_bytes()
    return Version("tiny", number, ModelConfig()), hashlib.sha256(data).hexdigest()


def states(repository: Repository) -> list[tuple[str, State]]:
    return [(entry.version, entry.state) for entry in repository.entries()]


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """The same repository, as two machines see it."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        put(folder, "tiny", 1)
    return folders


def test_all_change_over_if_all_can(folders: list[Path]) -> None:
    members: list[Group] = []
    (leader, first), (_, second) = (process(folder, members) for folder in folders)
    for folder in folders:
        put(folder, "tiny", 2)
    version, digest = told(folders[0], 2)

    assert leader.prepare(version, digest) == ""
    for repository in (first, second):
        assert states(repository) == [("1", State.READY), ("2", State.LOADING)]
        assert repository.get("tiny").version == "1"
    leader.commit("tiny", [Outcome(2, digest)], {"stable": 2})
    for repository in (first, second):
        assert states(repository) == [("2", State.READY)]
        assert repository.get("tiny", "stable").version == "2"


def test_none_changes_over_if_one_can_not(folders: list[Path]) -> None:
    members: list[Group] = []
    (leader, first), (_, second) = (process(folder, members) for folder in folders)
    put(folders[0], "tiny", 2)
    put(folders[1], "tiny", 2, version_of_another_kind())
    version, digest = told(folders[0], 2)

    reason = leader.prepare(version, digest)
    assert reason == "model.onnx changed while it was being loaded"
    leader.commit("tiny", [Outcome(1, told(folders[0], 1)[1]), Outcome(2, "", reason)], {})
    for repository in (first, second):
        assert states(repository) == [("1", State.READY), ("2", State.UNAVAILABLE)]
        assert repository.get("tiny").version == "1"


def version_of_another_kind() -> bytes:
    return onnx_models.classifier(5).SerializeToString()


def test_a_process_that_is_silent_is_no_yes(folders: list[Path]) -> None:
    members: list[Group] = []
    leader, _ = process(folders[0], members)
    put(folders[0], "tiny", 2)
    members[0].silent = 1
    assert leader.prepare(*told(folders[0], 2)).startswith("a worker did not say in time")


def test_a_new_process_is_brought_to_what_the_leader_serves(folders: list[Path]) -> None:
    members: list[Group] = []
    leader, first = process(folders[0], members)
    for folder in folders:
        put(folder, "tiny", 2)
        put(folder, "tiny", 3)
    leader.prepare(*told(folders[0], 2))
    refused = Outcome(3, "", "it is no good")
    leader.commit("tiny", [Outcome(2, told(folders[0], 2)[1]), refused], {"canary": 2})
    _, second = process(folders[1], members)
    assert states(second) == [("3", State.READY)]

    leader.keep_step()
    assert states(second) == states(first) == [("2", State.READY), ("3", State.UNAVAILABLE)]
    assert second.get("tiny", "canary").version == "2"
    assert second.entries()[1].reason == "it is no good"


@pytest.mark.parametrize(
    ("answers", "known"),
    [
        ([], {}),
        ([{"tiny": [{}, ["1", "d1", ""], ["2", "", "bad"]]}], {"tiny": {1: "", 2: "bad"}}),
        ([{"tiny": [{}, ["1", "d1", "its config.toml is bad"]]}], {"tiny": {1: ""}}),
        ([{"tiny": [{}, ["2", "", ""]]}], {"tiny": {}}),
        ([{"tiny": [{}, ["2", "", "bad"]]}, {"tiny": [{}, ["2", "d2", ""]]}], {"tiny": {2: ""}}),
        ([{"tiny": [{}, ["2", "", ""]]}, {"tiny": [{}, ["2", "", "bad"]]}], {"tiny": {2: "bad"}}),
    ],
    ids=["nobody", "refused", "kept", "being loaded", "serves somewhere", "refused by now"],
)
def test_what_a_new_process_is_told(answers: Sequence[JSON], known: JSON) -> None:
    serving: list[Group] = []
    for answer in answers:
        Group(serving).answer(SERVED, partial(_same, answer))
    asking = Group([])
    asking.members = serving
    assert known_to(asking) == known


def _same(answer: JSON, _: JSON) -> JSON:
    return answer


def test_a_process_alone_is_told_nothing() -> None:
    assert known_to(Alone()) == {}


def test_what_came_since_is_left_for_the_leader_to_try(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        put(tmp_path, "tiny", number)
    started = load_models(tmp_path, OPTIONS, {"tiny": {1: "", 2: "bad"}})
    assert states(started.repository) == [("1", State.READY), ("2", State.UNAVAILABLE)]
    assert {path[1] for path in started.picture if len(path) == 3} == {"1", "2"}


def test_what_is_quarantined_is_not_served_whatever_is_decided(folders: list[Path]) -> None:
    members: list[Group] = []
    (leader, first), (_, second) = (process(folder, members) for folder in folders)
    version, digest = told(folders[0], 1)
    members[1].own_answer(QUARANTINE, {digest: "quarantined: why"})
    leader.commit("tiny", [Outcome(1, digest)], {})
    assert [entry.reason for entry in second.entries()] == ["quarantined: why"]
    assert (states(first), states(second)) == ([("1", State.READY)], [("1", State.UNAVAILABLE)])
    assert second.changes.totals()["tiny", "quarantined"] == 1

    members[0].own_answer(QUARANTINE, {digest: "quarantined: why"})
    assert leader.prepare(version, digest) == "quarantined: why"
    leader.commit("tiny", [Outcome(1, digest)], {})
    assert states(first) == states(second) == [("1", State.UNAVAILABLE)]

    for member in members:
        member.own_answer(QUARANTINE, {})
    assert leader.prepare(version, digest) == ""
    leader.commit("tiny", [Outcome(1, digest)], {})
    assert states(first) == states(second) == [("1", State.READY)]
