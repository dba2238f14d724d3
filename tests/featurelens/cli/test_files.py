from __future__ import annotations

from pathlib import Path

import pytest

from featurelens.cli.console import CommandError
from featurelens.cli.files import find_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as people have them."""
    for name in ("b.png", "a.JPG", "c.jpeg", "sub/d.webp", "notes.txt", "._b.png", ".cache/e.png", "x/y.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "sub" / "circle").symlink_to(tmp_path)
    return tmp_path


def found(folder: Path, *inputs: str) -> list[str]:
    paths = find_images(str(folder / each) for each in inputs)
    return [Path(path).relative_to(folder).as_posix() for path in paths]


def test_a_folder_stands_for_the_images_below_it(folder: Path) -> None:
    assert found(folder, "") == ["a.JPG", "b.png", "c.jpeg", "sub/d.webp"]


def test_files_are_taken_whatever_they_are_called(folder: Path) -> None:
    assert found(folder, "notes.txt", "._b.png") == ["notes.txt", "._b.png"]


def test_patterns_are_expanded(folder: Path) -> None:
    assert found(folder, "*.p*", "s*/*.webp") == ["b.png", "sub/d.webp"]


def test_a_name_with_pattern_characters_is_a_name(folder: Path) -> None:
    (folder / "[1].png").touch()

    assert found(folder, "[1].png") == ["[1].png"]


def test_each_image_is_taken_once_where_it_comes_first(folder: Path) -> None:
    assert found(folder, "c.jpeg", "", "*.png") == ["c.jpeg", "a.JPG", "b.png", "sub/d.webp"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x", "no images (.png, .jpg, .jpeg, .webp) in the folder {}"),
        ("nope.png", "no such file or folder: {}"),
        ("*.bmp", "nothing matches {}"),
        ("s*b", "nothing matches {}"),
    ],
)
def test_an_input_that_stands_for_nothing_is_refused(folder: Path, name: str, message: str) -> None:
    with pytest.raises(CommandError) as raised:
        find_images([str(folder), str(folder / name)])

    assert str(raised.value) == message.format(folder / name)
