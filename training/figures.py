"""Draw a training run: curve, confusion matrix, worst mistakes, kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from torch import nn

    from training.data import Digits
    from training.train import Epoch

_COLUMNS = 10


def curve(history: Sequence[Epoch], path: Path) -> None:
    """Plot the error by epoch, on a logarithmic scale: most of training happens below 2 %."""
    figure = _figure(7, 4)
    axes = figure.subplots()
    epochs = [row.epoch for row in history]
    axes.plot(epochs, [row.error_percent for row in history], label="training images, distorted")
    held_out = [
        (row.epoch, row.held_out_error_percent) for row in history if row.held_out_error_percent is not None
    ]
    if held_out:
        axes.plot(*zip(*held_out, strict=True), label="held-out images, averaged weights")
    axes.set(xlabel="epoch", ylabel="error (%)", yscale="log", title="Error by epoch")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    _save(figure, path)


def confusion(matrix: NDArray[np.int64], path: Path) -> None:
    """Draw the mistakes by true and answered digit; the right answers on the diagonal are left out."""
    mistakes = matrix * (1 - np.eye(len(matrix), dtype=np.int64))
    figure = _figure(6, 5.4)
    axes = figure.subplots()
    axes.imshow(mistakes, cmap="Reds", vmin=0, vmax=max(1, mistakes.max()))
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            color = "0.6" if row == column else "white" if count > mistakes.max() / 2 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=color, fontsize=8)
    axes.set(
        xlabel="answered",
        ylabel="true digit",
        title=f"{mistakes.sum()} mistakes on {matrix.sum()} test images",
    )
    axes.set_xticks(range(len(matrix)))
    axes.set_yticks(range(len(matrix)))
    _save(figure, path)


def mistakes(digits: Digits, worst: Sequence[dict[str, Any]], path: Path) -> None:
    """Show the images of `worst`, each with its true digit and the answer it got."""
    rows = max(1, -(-len(worst) // _COLUMNS))
    figure = _figure(_COLUMNS * 1.0, rows * 1.3)
    grid = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, mistake in zip(grid, worst, strict=False):
        axes.imshow(digits.images[mistake["index"]], cmap="gray_r", vmin=0, vmax=255)
        answer = f"{mistake['label']} taken for {mistake['answer']}"
        axes.set_title(f"{answer}\n{mistake['answer_probability']:.0%}", fontsize=7)
    _save(figure, path)


def kernels(model: nn.Module, path: Path) -> None:
    """Show the learned kernels: conv1 in the first row, below it conv2, a row for each of its inputs.

    Red is positive, blue negative, white 0; one scale a layer.
    """
    weights = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    conv1, conv2 = weights["conv1.weight"], weights["conv2.weight"]
    inputs = conv2.shape[1]
    figure = _figure(len(conv2) * 0.55, (inputs + 1) * 0.62)
    grid = figure.subplots(inputs + 1, len(conv2))
    for axes in grid.ravel():
        axes.set(xticks=[], yticks=[])
    _draw_kernels(grid[0], conv1[:, 0], "conv1")
    for row in range(inputs):
        _draw_kernels(grid[row + 1], conv2[:, row], f"conv2, map {row}", limit=float(np.abs(conv2).max()))
    for axes in grid[0, len(conv1) :]:
        axes.axis("off")
    _save(figure, path)


def _draw_kernels(
    row: NDArray[np.object_], weights: NDArray[np.float32], label: str, limit: float | None = None
) -> None:
    limit = limit or float(np.abs(weights).max())
    row[0].set_ylabel(label, fontsize=6, rotation=0, ha="right", va="center")
    axes: Axes
    for axes, kernel in zip(row, weights, strict=False):
        axes.imshow(kernel, cmap="RdBu_r", vmin=-limit, vmax=limit)


def _figure(width: float, height: float) -> Figure:
    """Make a figure of its own, in inches: no global state, no display."""
    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Software": None})  # the same run writes the same bytes
