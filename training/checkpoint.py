"""Write a training run to a file and read it back, without pickled code."""

from __future__ import annotations

import os
from dataclasses import asdict
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch

from training.settings import Augmentation, Settings
from training.train import Epoch, Run, start

if TYPE_CHECKING:
    from pathlib import Path


class CheckpointError(Exception):
    """The file isn't a checkpoint that this run can go on from."""


def save(run: Run, path: Path) -> None:
    """Write `run`; a crash in the middle leaves the previous checkpoint whole."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    state = {
        "settings": asdict(run.settings),
        "model": run.model.state_dict(),
        "average": run.average.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "images": run.images,
        "step": run.step,
        "loss_sum": run.loss_sum,
        "errors": run.errors,
        "history": [asdict(epoch) for epoch in run.history],
    }
    torch.save(state, part)
    part.replace(path)


def load(path: Path) -> Run:
    """Return the run as it was saved.

    Raises:
        CheckpointError: there is no such file, or it's not a checkpoint.
    """
    try:
        return _restore(torch.load(path, weights_only=True))
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}: train without --resume first") from error
    except (KeyError, TypeError, ValueError, RuntimeError, UnpicklingError, EOFError) as error:
        raise CheckpointError(f"{path} is not a checkpoint that this version wrote: train anew") from error


def _restore(state: dict[str, Any]) -> Run:
    settings = {**state["settings"], "augmentation": Augmentation(**state["settings"]["augmentation"])}
    run = start(Settings(**settings))
    run.model.load_state_dict(state["model"])
    run.average.load_state_dict(state["average"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.images, run.step = state["images"], state["step"]
    run.loss_sum, run.errors = state["loss_sum"], state["errors"]
    run.history = [Epoch(**epoch) for epoch in state["history"]]
    return run
