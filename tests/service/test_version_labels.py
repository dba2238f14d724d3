"""How labels are edited: nothing else of the file changes, and a wrong edit changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import StartupError
from service.model_config import read_model_config
from service.model_files import ModelFiles
from service.version_labels import set_label, version_before
from tests.service.live.repositories import put


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1, 2, 10):
        put(tmp_path, "tiny", number)
    return tmp_path


def config(folder: Path) -> Path:
    return folder / "tiny/config.toml"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "[version_labels]\nstable = 2\n"),
        ("# ours\nsoftmax = false\n", "# ours\nsoftmax = false\n\n[version_labels]\nstable = 2\n"),
        (
            "[version_labels] # moved by us\nstable = 1 # good\ncanary = 10\n\n[versions]\nall = true\n",
            "[version_labels] # moved by us\nstable = 2 # good\ncanary = 10\n\n[versions]\nall = true\n",
        ),
        ("version_labels.canary = 10\n", "version_labels.canary = 10\nversion_labels.stable = 2\n"),
    ],
    ids=["none", "comments", "moved", "dotted"],
)
def test_a_label_is_set_and_the_rest_stays(folder: Path, before: str, after: str) -> None:
    config(folder).write_text(before)
    set_label(folder, "tiny", "stable", 2)
    assert config(folder).read_text() == after


def test_a_config_is_made_where_there_is_none(folder: Path) -> None:
    set_label(folder, "tiny", "canary", 10)
    assert read_model_config(ModelFiles.at(folder), "tiny").version_labels == {"canary": 10}
    assert sorted(path.name for path in (folder / "tiny").iterdir()) == ["1", "10", "2", "config.toml"]


def test_a_label_is_removed(folder: Path) -> None:
    config(folder).write_text("[version_labels]\nstable = 2\ncanary = 10\n")
    set_label(folder, "tiny", "stable", None)
    assert config(folder).read_text() == "[version_labels]\ncanary = 10\n"
    set_label(folder, "tiny", "stable", None)


def test_the_file_keeps_its_mode_and_its_link(folder: Path, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere.toml"
    real.write_text("")
    real.chmod(0o640)
    config(folder).symlink_to(real)
    set_label(folder, "tiny", "stable", 2)
    assert config(folder).is_symlink()
    assert "stable = 2" in real.read_text()
    assert real.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("text", "name", "label", "version", "reason"),
    [
        ("", "other", "stable", 2, 'there is no model "other" in '),
        ("", "../tiny", "stable", 2, 'there is no model "../tiny" in '),
        ("", "tiny", "stable", 7, 'model "tiny" has no version 7 in '),
        ("", "tiny", "7", 2, "config.toml: version_labels.7"),
        ("softmax = 3", "tiny", "stable", 2, "config.toml: softmax: "),
        ("softmax = ", "tiny", "stable", 2, "config.toml can't be read: "),
    ],
)
def test_what_is_wrong_changes_nothing(
    folder: Path, text: str, name: str, label: str, version: int, reason: str
) -> None:
    config(folder).write_text(text)
    with pytest.raises(StartupError) as info:
        set_label(folder, name, label, version)
    assert str(info.value)[: len(reason)] == reason
    assert config(folder).read_text() == text


def test_the_version_before_is_the_newest_of_the_older_ones(folder: Path) -> None:
    assert [version_before(folder, "tiny", number) for number in (10, 9, 2)] == [2, 2, 1]
    with pytest.raises(StartupError, match='model "tiny" has no version before 1; it has 1, 2, 10'):
        version_before(folder, "tiny", 1)
