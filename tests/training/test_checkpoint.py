from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from training import checkpoint
from training.checkpoint import CheckpointError
from training.settings import Settings
from training.train import start

if TYPE_CHECKING:
    from pathlib import Path


def test_settings_come_back(tmp_path: Path) -> None:
    settings = Settings(seed=7, loss="squared-error", held_out=3)
    checkpoint.save(start(settings), tmp_path / "checkpoint")
    assert checkpoint.load(tmp_path / "checkpoint").settings == settings
    assert list(tmp_path.iterdir()) == [tmp_path / "checkpoint"]


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        checkpoint.load(tmp_path / "none")


class Evil:
    """Runs code when unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit('ran foreign code')",))


def test_foreign_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"settings": Evil()}, tmp_path / "evil")
    with pytest.raises(CheckpointError, match="is not a checkpoint that this version wrote"):
        checkpoint.load(tmp_path / "evil")


@pytest.mark.parametrize("content", [b"", b"digits", b"\x80\x02}q\x00."])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a checkpoint that this version wrote"):
        checkpoint.load(tmp_path / "other")


def test_a_checkpoint_with_another_content_is_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(CheckpointError, match="is not a checkpoint that this version wrote"):
        checkpoint.load(tmp_path / "other")
