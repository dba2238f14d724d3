"""Runs all models through a server, and tells what came out as a table."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.foreign.comparison import TOLERANCES
from tests.foreign.model import ForeignModel
from tests.foreign.served import LIMITS, Served
from tests.foreign.trial import BATCH, Found, judge
from tests.serving import serving

_GATHER_US = 5_000  # so that four callers share a run wherever they may
_HEADER = (
    "| file | written by | inputs | head | layers | follow the batch | largest difference | seconds |\n"
    "|---|---|---|---|---|---|---|---|"
)


def run(models: Sequence[ForeignModel], transport: str, *, each_layer: bool) -> list[Found]:
    """Serve the models and judge each; see `judge`."""
    with TemporaryDirectory() as folder:
        files = {model.name: _placed(Path(folder), model) for model in models}
        settings = {"max_batch_size": BATCH, "max_queue_delay_us": _GATHER_US, "log_level": "error", **LIMITS}
        with serving(model_repository=Path(folder), transport=transport, **settings) as server:
            served = Served(server.address)
            reasons = served.reasons()
            found = [
                _refused(model, reasons[model.name])
                if model.name in reasons
                else judge(served, model, files[model.name], each_layer=each_layer)
                for model in models
            ]
            served.close()
    return found


def table(found: Iterable[Found]) -> str:
    """Return the rows as Markdown."""
    return "\n".join([_HEADER, *map(_row, found)])


def problems(found: Iterable[Found]) -> list[str]:
    """Return a line for everything that is wrong."""
    return [f"{row.model.name}: {problem}" for row in found for problem in row.wrong]


def _row(row: Found) -> str:
    model = row.model
    precision = f" ({model.precision}, {TOLERANCES[model.precision]:.0e})"
    cells = (
        model.name,
        model.maker,
        row.inputs,
        row.head or "no classifier",
        str(row.layers),
        str(row.followers),
        f"{row.largest:.1e}" + (precision if model.precision != "float32" else ""),
        f"{row.seconds:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def _placed(folder: Path, model: ForeignModel) -> Path:
    """Copy a model into a repository as it is, what lies beside it and has its name included."""
    version = folder / model.name / "1"
    version.mkdir(parents=True)
    shutil.copy(model.file, version / "model.onnx")
    for beside in model.file.parent.glob(f"{model.file.name}.*"):
        shutil.copy(beside, version / beside.name)
    if model.config:
        (version.parent / "config.toml").write_text(model.config)
    return version / "model.onnx"


def _refused(model: ForeignModel, reason: str) -> Found:
    return Found(model, "", "", 0, 0, 0.0, 0.0, (f"refused: {reason}",))
