"""What the files around the code say agrees with the code and with each other; tests/containers runs them."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from featurelens import __version__
from service.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_image_has_the_version_of_the_package() -> None:
    assert f'image.version="{__version__}"' in DOCKERFILE
    assert SERVICES["server"]["image"].endswith(f":{__version__}}}")


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("read_only", True),
        ("cap_drop", ["ALL"]),
        ("security_opt", ["no-new-privileges:true"]),
        ("init", True),
        ("restart", "unless-stopped"),
        ("privileged", None),
        ("cap_add", None),
        ("network_mode", None),
    ],
)
def test_every_service_is_confined(service: str, key: str, expected: object) -> None:
    assert SERVICES[service].get(key) == expected


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "key", ["pids_limit", "mem_limit", "memswap_limit", "tmpfs", "healthcheck", "logging"]
)
def test_every_service_is_bounded_and_watched(service: str, key: str) -> None:
    assert SERVICES[service][key]


@pytest.mark.parametrize("service", SERVICES)
def test_ports_are_published_on_the_loopback_address(service: str) -> None:
    ports = SERVICES[service]["ports"]

    assert [port for port in ports if not port.startswith("${PUBLISH_ADDRESS:-127.0.0.1}:")] == []


def test_the_engine_waits_longer_than_the_server_drains() -> None:
    defaults = Settings.model_fields
    seconds = int(SERVICES["server"]["stop_grace_period"].removesuffix("s"))

    assert seconds > defaults["drain_s"].default + defaults["grace_s"].default


def test_environment_variables_are_settings() -> None:
    used = set(re.findall(rf"\b{ENV_PREFIX}(\w+)", DOCKERFILE)) | {
        name.removeprefix(ENV_PREFIX) for name in SERVICES["server"]["environment"]
    }

    assert len(used) >= 4
    assert {name for name in used if name.lower() not in Settings.model_fields} == set()


def test_dockerfile_runs_the_server_as_process_not_as_shell() -> None:
    assert re.findall(r"^(?:ENTRYPOINT|USER) .*", DOCKERFILE, re.MULTILINE) == [
        "USER 10001:10001",
        'ENTRYPOINT ["featurelens", "serve"]',
    ]


def test_build_context_holds_what_the_wheel_is_built_from() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], PROJECT["readme"], *PROJECT["license-files"]}

    assert let_in == needed | {"constraints.txt", "pyproject.toml"}


def test_ci_calls_the_targets() -> None:
    script = ROOT / ".ci" / "run"

    assert os.access(script, os.X_OK)
    assert re.findall(r"^make (\S+)$", script.read_text(), re.MULTILINE) == [
        "demo",
        "check",
        "test",
        "test-containers",
    ]


def test_help_is_the_first_target_and_shows_all() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z][a-z-]*):.*##", makefile, re.MULTILINE)  # the others are steps of these

    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert targets[0] == "help"
    assert re.findall(r"^ {2}(\S+) ", shown, re.MULTILINE) == targets


def test_constraints_pin_every_dependency() -> None:
    wanted = [
        *PROJECT["dependencies"],
        *(line for extra in PROJECT["optional-dependencies"].values() for line in extra),
    ]
    names = {re.split(r"[\[<>=]", line)[0].lower() for line in wanted} - {PROJECT["name"]}
    pins = re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)

    assert names - {pin.lower() for pin in pins} == set()
