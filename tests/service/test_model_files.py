"""What is read of a repository, what isn't, and that nothing outside of it ever is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.errors import ModelLoadError, StartupError
from service.model_files import ModelFiles, ModelFolder

PLACE = ("lenet", "1", "model.onnx")
MOST = 100


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "models" / "lenet" / "1").mkdir(parents=True)
    (tmp_path / "models" / "lenet" / "1" / "model.onnx").write_bytes(b"inside")
    return tmp_path / "models"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A version of a model next to the repository, in a folder whose name begins with the repository's."""
    (tmp_path / "models-secret" / "1").mkdir(parents=True)
    (tmp_path / "models-secret" / "1" / "model.onnx").write_bytes(b"outside")
    return tmp_path / "models-secret" / "1" / "model.onnx"


def read(root: Path, *path: str) -> bytes | None:
    return ModelFiles.at(root).read(*(path or PLACE), most_bytes=MOST)


def test_finds_models_and_versions_in_order(root: Path) -> None:
    for name in ("zeta/1", "lenet/10", "lenet/9", "Alpha.v2_x-y/999999999999999999"):
        (root / name).mkdir(parents=True)
    assert ModelFiles.at(root).scan() == [
        ModelFolder("Alpha.v2_x-y", (999999999999999999,)),
        ModelFolder("lenet", (1, 9, 10)),
        ModelFolder("zeta", (1,)),
    ]


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("lenet/003", "a version is a number"),
        ("lenet/abc", "a version is a number"),
        ("lenet/-1", "a version is a number"),
        ("lenet/1.bak", "a version is a number"),
        ("lenet/0", "a version is a number"),
        ("lenet/" + "9" * 19, "a version is a number"),
        ("with space", "a name is up to 64 letters"),
        ("_hidden", "a name is up to 64 letters"),
        ("l" * 65, "a name is up to 64 letters"),
        ("empty", "it holds no version"),
    ],
)
def test_a_folder_that_is_no_version_is_ignored_with_one_warning(root: Path, place: str, reason: str) -> None:
    (root / place).mkdir()
    with capture_logs() as logs:
        assert ModelFiles.at(root).scan() == [ModelFolder("lenet", (1,))]
    assert [(entry["place"], entry["log_level"]) for entry in logs] == [(place, "warning")]
    assert str(logs[0]["reason"]).startswith(reason)


def test_an_archive_is_ignored_with_a_warning(root: Path) -> None:
    (root / "resnet.zip").write_bytes(b"PK\3\4")
    with capture_logs() as logs:
        assert ModelFiles.at(root).scan() == [ModelFolder("lenet", (1,))]
    assert [(entry["place"], entry["reason"]) for entry in logs] == [("resnet.zip", "Not a directory")]
    assert sorted(path.name for path in root.iterdir()) == ["lenet", "resnet.zip"]


def test_hidden_folders_are_no_models(root: Path) -> None:
    (root / ".git" / "1").mkdir(parents=True)
    (root / "lenet" / ".cache").mkdir()
    with capture_logs() as logs:
        assert ModelFiles.at(root).scan() == [ModelFolder("lenet", (1,))]
    assert logs == []


def test_a_repository_has_to_be_a_folder(root: Path) -> None:
    with pytest.raises(StartupError, match=r"model\.onnx is not a folder"):
        ModelFiles.at(root.joinpath(*PLACE))


def test_reads_a_file(root: Path) -> None:
    assert read(root) == b"inside"


def test_a_file_that_is_not_there_is_none(root: Path) -> None:
    assert read(root, "lenet", "config.toml") is None


def test_the_repository_itself_may_be_a_link(root: Path) -> None:
    link = root.with_name("current")
    link.symlink_to(root)
    assert ModelFiles.at(link).scan() == [ModelFolder("lenet", (1,))]
    assert read(link) == b"inside"


def test_links_within_the_repository_are_followed(root: Path) -> None:
    """As in a volume made of a Kubernetes ConfigMap."""
    (root / "lenet" / "1").rename(root / "lenet" / "..data")
    (root / "lenet" / "1").mkdir()
    (root / "lenet" / "1" / "model.onnx").symlink_to("../..data/model.onnx")
    (root / "alias").symlink_to("lenet")
    (root / "lenet" / "2").symlink_to("1")
    assert ModelFiles.at(root).scan() == [ModelFolder("alias", (1, 2)), ModelFolder("lenet", (1, 2))]
    assert [read(root), read(root, "alias", "2", "model.onnx")] == [b"inside"] * 2


def test_a_hard_link_is_a_file_like_any_other(root: Path, outside: Path) -> None:
    """Stores of models save space with them; only who may read a file can make one."""
    (root / "lenet" / "2").mkdir()
    (root / "lenet" / "2" / "model.onnx").hardlink_to(outside)
    assert read(root, "lenet", "2", "model.onnx") == b"outside"


@pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "relative"])
@pytest.mark.parametrize("link", ["lenet/2/model.onnx", "lenet/2"])
def test_a_link_out_of_the_repository_is_refused(
    root: Path, outside: Path, link: str, absolute: bool
) -> None:
    place = root / link
    place.parent.mkdir(exist_ok=True)
    target = outside if place.name == "model.onnx" else outside.parent
    place.symlink_to(target if absolute else os.path.relpath(target, place.parent))
    with pytest.raises(ModelLoadError, match=r"^model\.onnx leads out of the model repository$"):
        read(root, "lenet", "2", "model.onnx")


def test_a_model_that_is_a_link_out_of_the_repository_is_ignored(root: Path, outside: Path) -> None:
    (root / "secret").symlink_to(outside.parent.parent)
    with capture_logs() as logs:
        assert ModelFiles.at(root).scan() == [ModelFolder("lenet", (1,))]
    assert [entry["reason"] for entry in logs] == ["secret leads out of the model repository"]


@pytest.mark.parametrize("target", ["model.onnx", "nowhere"], ids=["to itself", "to nothing"])
def test_a_link_to_no_file_is_refused(root: Path, target: str) -> None:
    root.joinpath(*PLACE).unlink()
    root.joinpath(*PLACE).symlink_to(target)
    with pytest.raises(ModelLoadError, match=r"^model\.onnx can't be read: [\w ]+$"):
        read(root)


@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_only_regular_files_are_read(root: Path, kind: str) -> None:
    place = root.joinpath(*PLACE)
    place.unlink()
    if kind == "fifo":
        os.mkfifo(place)  # to read it would take forever
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("/dev/zero")
    with pytest.raises(ModelLoadError, match=r"is not a regular file|leads out of the model repository"):
        read(root)


@pytest.mark.parametrize(("size", "refused"), [(MOST, False), (MOST + 1, True), (2**40, True)])
def test_a_file_over_the_limit_is_refused_before_it_is_read(root: Path, size: int, refused: bool) -> None:
    os.truncate(root.joinpath(*PLACE), size)
    if refused:
        with pytest.raises(ModelLoadError, match=f"^model.onnx has {size} bytes; the limit is {MOST}$"):
            read(root)
    else:
        assert len(read(root) or b"") == size


@pytest.mark.parametrize("swapped", ["lenet", "lenet/1", "lenet/1/model.onnx"])
def test_a_link_that_takes_a_place_after_the_check_is_not_followed(
    root: Path, outside: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    targets = {"lenet": outside.parent.parent, "lenet/1": outside.parent, "lenet/1/model.onnx": outside}

    check = ModelFiles._inside

    def checked_then_swapped(self: ModelFiles, place: Path, name: str) -> tuple[str, ...]:
        steps = check(self, place, name)
        (root / swapped).rename(root / "aside")
        (root / swapped).symlink_to(targets[swapped])
        return steps

    monkeypatch.setattr(ModelFiles, "_inside", checked_then_swapped)
    with pytest.raises(ModelLoadError, match=r"^model\.onnx can't be read: [\w ]+$"):
        read(root)
    assert root.joinpath(*PLACE).read_bytes() == b"outside"
