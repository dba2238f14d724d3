from __future__ import annotations

import subprocess
import sys

import pytest

import featurelens
from tests.featurelens.conftest import Command

SUBCOMMANDS = (
    *(
        "serve",
        "doctor",
        "check",
        "import",
        "classify",
        "layers",
        "top",
        "batch",
        "train",
        "evaluate",
        "token",
        "version",
    ),
    "models",
)
RUN = "from featurelens.cli import main; main()"


def run_without(libraries: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process where these libraries can't be imported."""
    block = f"import sys; sys.modules.update(dict.fromkeys({libraries.split()}))"
    command = [sys.executable, "-c", f"{block}; {RUN}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_help_lists_every_subcommand(command: Command) -> None:
    listed = command("--help").out.partition("Commands:\n")[2].splitlines()
    names = [line.split()[0] for line in listed[: len(SUBCOMMANDS)]]

    assert names == list(SUBCOMMANDS)


def test_prints_its_version(command: Command) -> None:
    assert command("version").out == f"{featurelens.__version__}\n"


@pytest.mark.parametrize(
    "arguments", ["nope", "classify", "batch .", "classify x --top-k 0", "models --output x"]
)
def test_wrong_usage_is_status_2(command: Command, arguments: str) -> None:
    ended = command(*arguments.split())

    assert (ended.status, ended.out) == (2, "")
    assert "Usage: featurelens" in ended.err


@pytest.mark.parametrize(
    ("library", "arguments", "extra"),
    [
        ("onnxruntime", ["serve"], "server"),
        ("pydantic_settings", ["serve", "--help"], "server"),
        ("onnxruntime", ["doctor"], "server"),
        ("onnxruntime", ["check", __file__], "server"),
        ("onnx", ["import", __file__, "x", "--model-repository", "x"], "server"),
        ("torch", ["train"], "training"),
        ("pooch", ["train", "--help"], "training"),
    ],
)
def test_a_missing_extra_is_named(library: str, arguments: list[str], extra: str) -> None:
    ended = run_without(library, *arguments)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"featurelens: this needs {library}, which is not installed: pip install 'featurelens[{extra}]'\n"
    )


def test_the_base_install_is_enough_for_the_rest() -> None:
    ended = run_without("onnxruntime onnx torch pydantic_settings structlog pooch tqdm matplotlib", "version")

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{featurelens.__version__}\n", "")


@pytest.mark.parametrize(("subcommand", "flag"), [("serve", "--grpc-address"), ("train", "--resume")])
def test_help_of_a_heavy_subcommand_is_its_own(command: Command, subcommand: str, flag: str) -> None:
    ended = command(subcommand, "--help")

    assert ended.status == 0
    assert ended.out.startswith(f"usage: featurelens {subcommand}")
    assert flag in ended.out
