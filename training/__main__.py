"""The command line: `python -m training train|evaluate|export|report`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from training import commands
from training.settings import LossName, Settings, explanations, flat

if TYPE_CHECKING:
    from collections.abc import Sequence

OUTPUT = Path("out/models/lenet/1")  # of a model repository, out/models, that a server can be pointed at
CHECKPOINT = Path("out/lenet.checkpoint")


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m training") -> int:
    """Run the command in `argv` (None: the process's arguments) and return its exit status."""
    arguments = vars(_parser(prog).parse_args(argv))
    command = arguments.pop("command")
    try:
        return int(command(**arguments))
    except commands.EXPECTED_ERRORS as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return commands.INTERRUPTED


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description="Train LeNet on MNIST and hand it over as ONNX.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Any, help_text: str) -> argparse.ArgumentParser:  # noqa: ANN401 - any signature
        subparser = subparsers.add_parser(name, help=help_text, description=help_text)
        subparser.set_defaults(command=command)
        return subparser

    train = add("train", commands.train, "train, export, prove parity and write the report")
    train.add_argument("--resume", action="store_true", help="go on from the checkpoint, with its settings")
    train.add_argument(
        "--record", type=Path, help="JSON file to add the settings and their held-out error to"
    )
    _add_settings(train)
    evaluate = add("evaluate", commands.evaluate, "count an ONNX file's errors on the test images")
    evaluate.add_argument("model", type=Path, metavar="MODEL", help="the .onnx file")
    export = add("export", commands.export, "write a finished checkpoint as ONNX and prove parity")
    report = add("report", commands.report, "write the report on a finished checkpoint")
    for subparser in (train, export, report):
        subparser.add_argument(
            "--output",
            type=Path,
            default=OUTPUT,
            help="folder for the model and its report (default: %(default)s)",
        )
        subparser.add_argument(
            "--checkpoint",
            type=Path,
            default=CHECKPOINT,
            help="file that --resume reads (default: %(default)s)",
        )
    for subparser in (train, evaluate, export, report):
        subparser.add_argument(
            "--data", type=Path, help="folder with four IDX files (default: MNIST, fetched once)"
        )
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Add a flag for every setting; one that isn't given leaves no trace in the result."""
    meaning = explanations()
    for name, default in flat(Settings()).items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            choices=get_args(LossName) if name == "loss" else None,
            default=argparse.SUPPRESS,
            help=f"{meaning[name]} (default: {default})",
        )


if __name__ == "__main__":
    sys.exit(main())
