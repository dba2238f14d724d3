"""No part of the repository runs code out of data or a string, or sleeps instead of waiting for an event."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ("featurelens", "protos", "service", "training", "scripts", "benchmarks")


def keyword_is(call: ast.Call, name: str, value: bool) -> bool:
    return any(
        keyword.arg == name and isinstance(keyword.value, ast.Constant) and keyword.value.value is value
        for keyword in call.keywords
    )


BANNED_MODULES = {"pickle", "cPickle", "joblib", "dill", "cloudpickle", "marshal", "shelve"}
BANNED_CALLS = {"eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "time.sleep"}


def banned(tree: ast.AST) -> Iterator[str]:
    """Yield the names of the banned modules and calls that a program uses."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names if alias.name.split(".")[0] in BANNED_MODULES)
            case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] in BANNED_MODULES:
                yield from (module for alias in names if not alias.name.endswith("Error"))
            case ast.ImportFrom(module=str(module), names=names):
                yield from (name for alias in names if (name := f"{module}.{alias.name}") in BANNED_CALLS)
            case ast.Call(func=function):
                name = ast.unparse(function)
                last = name.rsplit(".", 1)[-1]
                if (
                    name in BANNED_CALLS
                    or (name == "torch.load" and not keyword_is(node, "weights_only", True))
                    or (last == "load" and keyword_is(node, "allow_pickle", True))
                    or (last in {"extractall", "unpack_archive"})
                    or keyword_is(node, "shell", True)
                ):
                    yield name


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import pickle", ["pickle"]),
        ("def f():\n    from joblib import load", ["joblib"]),
        ("from pickle import UnpicklingError", []),
        ("from time import sleep", ["time.sleep"]),
        ("time.sleep(1)", ["time.sleep"]),  # text for the check to find, nothing that runs
        ("eval('1')", ["eval"]),
        ("model.eval()", []),
        ("torch.load(path)", ["torch.load"]),
        ("torch.load(path, weights_only=False)", ["torch.load"]),
        ("torch.load(path, weights_only=True)", []),
        ("np.load(path, allow_pickle=True)", ["np.load"]),
        ("np.load(path)", []),
        ("yaml.load(text)", ["yaml.load"]),
        ("yaml.safe_load(text)", []),
        ("subprocess.run('ls', shell=True)", ["subprocess.run"]),
        ("os.system('ls')", ["os.system"]),
        ("archive.extractall()", ["archive.extractall"]),
        ("shutil.unpack_archive(path)", ["shutil.unpack_archive"]),
    ],
)
def test_banned_calls_are_recognized(source: str, expected: list[str]) -> None:
    assert expected == list(banned(ast.parse(source)))


def calls_in(*folders: str) -> dict[str, list[str]]:
    """Return the banned calls by file; there have to be files."""
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(paths) > 20
    return {path.relative_to(ROOT).as_posix(): list(banned(ast.parse(path.read_text()))) for path in paths}


def test_no_banned_call() -> None:
    assert {path: calls for path, calls in calls_in(*PROGRAMS).items() if calls} == {}


def test_no_test_sleeps() -> None:
    # Tests may pickle: hostile files have to come from somewhere.
    assert {path: calls for path, calls in calls_in("tests").items() if "time.sleep" in calls} == {}
