"""`featurelens models`: the list, the list as it changes, labels and rollback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurelens import Client
from tests.featurelens.conftest import DEAD_ADDRESS, Command
from tests.service.live.repositories import configure, put, wait_until_true
from tests.serving import serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository with two versions of the model "tiny", of which the newest is served."""
    put(tmp_path, "tiny", 1)
    put(tmp_path, "tiny", 2)
    configure(tmp_path, "tiny", "")
    return tmp_path


@pytest.fixture
def live(folder: Path) -> Iterator[str]:
    """The address of a server that follows the folder."""
    with serving(model_repository=folder, watch_settle_s=0.1, trial_timeout_s=0) as server:
        yield server.address


def test_lists_the_models(command: Command) -> None:
    header, row = command("models").out.splitlines()
    (entry,) = json.loads(command("models", "--output", "json").out)

    assert header.split() == ["MODEL", "VERSION", "STATE", "LABELS", "PROVIDER", "DIGEST", "REASON"]
    assert row.split() == ["lenet", "1", "READY", "CPUExecutionProvider", entry["digest"][:12]]
    assert list(entry) == ["name", "version", "state", "reason", "digest", "provider", "labels"]


def test_a_pipe_gets_the_changes_as_lines(command: Command, folder: Path, live: str) -> None:
    configure(folder, "tiny", "version_labels.canary = 1")
    with Client(live) as client:
        wait_until_true(lambda: client.models()[0].labels == ("canary",))
        watched = command("models", "--watch", "--looks", 3, "--interval", 0.01, "--server", live)

    assert watched.out.splitlines() == ["tiny/1 READY (canary)", "tiny/2 READY"]
    assert watched.status == 0


def test_a_terminal_gets_a_table(command: Command, live: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    watched = command("models", "--watch", "--looks", 2, "--interval", 0.01, "--server", live)

    assert "READY" in watched.out
    assert watched.out.count("state") > 1


def test_rollback_lets_the_version_before_answer(command: Command, folder: Path, live: str) -> None:
    ended = command("models", "rollback", "tiny", "--model-repository", folder, "--server", live)

    assert (ended.out, ended.err, ended.status) == (
        "tiny: version 1 answers now, in place of 2\n",
        "",
        0,
    )
    with Client(live) as client:
        assert client.describe("tiny").version == "1"
        assert [(model.version, model.labels) for model in client.models()] == [("1", ("stable",)), ("2", ())]
    again = command("models", "rollback", "tiny", "--model-repository", folder, "--server", live)
    assert again.err == 'featurelens: model "tiny" has no version before 1; it has 1, 2\n'
    assert again.status == 2


def test_a_label_is_set_and_removed(command: Command, folder: Path, live: str) -> None:
    repository = ("--model-repository", folder)
    with Client(live) as client:
        assert command("models", "label", "tiny", "beta", 1, *repository).out == 'tiny: "beta" is version 1\n'
        wait_until_true(lambda: [model.labels for model in client.models()] == [("beta",), ()])
        assert client.describe("tiny", "beta").version == "1"
        assert command("models", "label", "tiny", "beta", *repository).out == 'tiny: "beta" is removed\n'
        wait_until_true(lambda: [model.version for model in client.models()] == ["2"])


def test_rollback_of_another_folder_says_that_nothing_came_of_it(
    command: Command, folder: Path, tmp_path_factory: pytest.TempPathFactory, live: str
) -> None:
    other = tmp_path_factory.mktemp("other")
    put(other, "tiny", 1)
    arguments = ("--model-repository", other, "--server", live, "--timeout", 0.3)
    ended = command("models", "rollback", "tiny", *arguments)

    assert ended.err.startswith("featurelens: the server didn't change over to version 1 within 0.3 s")
    assert ended.status == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models", "--watch", "--server", DEAD_ADDRESS], f"no featurelens server answers at {DEAD_ADDRESS}"),
        (
            ["models", "label", "tiny", "stable", "1", "--model-repository", "/nowhere"],
            "the model repository",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_2(
    command: Command, arguments: list[str], message: str
) -> None:
    ended = command(*arguments)

    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith(f"featurelens: {message}")
