"""Changes that no event tells of, and folders that take each other's place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import grpc
import pytest
from structlog.testing import capture_logs

from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from service.watch import FolderWatch
from tests.service.live.repositories import ask, configure, put, wait_until
from tests.serving import serving

SETTINGS = {"watch_settle_s": 0.1, "trial_timeout_s": 0}


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the folder often, as waiting for the next look would take long."""
    monkeypatch.setattr("service.live._LOOK_S", 0.2)


@pytest.fixture
def without_events(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Iterator[None]:
        raise OSError("no space left for watches")

    monkeypatch.setattr("service.watch.watch", refuse)


@pytest.mark.usefixtures("often", "without_events")
def test_without_events_changes_are_found_all_the_same(folder: Path) -> None:
    with (
        capture_logs() as logs,
        serving(model_repository=folder, **SETTINGS) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        put(folder, "tiny", 2)
        wait_until(ClassifierStub(channel), v2="READY")
    told = [entry["reason"] for entry in logs if "can't be watched" in entry["event"]]
    assert told == ["no space left for watches"]


@pytest.mark.usefixtures("often")
def test_a_repository_behind_a_link_may_be_swapped(folder: Path, tmp_path: Path) -> None:
    other, link, new = tmp_path / "other", tmp_path / "link", tmp_path / "new"
    put(other, "tiny", 5)
    configure(other, "tiny", "")
    link.symlink_to(folder)
    with (
        serving(model_repository=link, **SETTINGS) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = ClassifierStub(channel)
        assert ask(stub) == ("1", 1.0)
        new.symlink_to(other)
        new.rename(link)
        wait_until(stub, v5="READY")
        put(other, "tiny", 6)
        wait_until(stub, v6="READY")
        assert ask(stub) == ("6", 6.0)


def test_a_folder_that_takes_the_place_of_another_is_watched(tmp_path: Path) -> None:
    folder, other = tmp_path / "folder", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    changed: SimpleQueue[None] = SimpleQueue()
    watch = FolderWatch(lambda: changed.put(None))
    try:
        watch.aim(folder)
        folder.rename(tmp_path / "away")
        other.rename(folder)
        watch.aim(folder)
        while not changed.empty():  # what the first watch has seen
            changed.get()
        while changed.empty():  # events come once the watch has begun
            (folder / "file").write_text("")
        changed.get(timeout=30)
    finally:
        watch.close()
