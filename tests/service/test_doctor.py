"""What the doctor finds, in good and in broken surroundings."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from service.cgroups import memory_limit, process_limit
from service.checks import files, machine, models, network, software
from service.checks.configuration import configuration
from service.checks.finding import Finding, Verdict
from service.doctor import examine
from service.settings import MiB, Settings
from tests.service import onnx_models
from tests.service.conftest import add_model
from tests.service.test_cpus import mounted

GOOD, NOTICE, BAD = Verdict.GOOD, Verdict.NOTICE, Verdict.BAD


def by_check(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


def test_a_healthy_machine_is_all_good(repository: Path) -> None:
    flags = ["--model-repository", str(repository), "--grpc-address", "127.0.0.1:0", "--device", "cpu"]
    findings = list(examine(flags))

    assert {finding for finding in findings if finding.verdict is BAD} == set()
    found = by_check(findings)
    assert found["settings"].found == "set: device, grpc_address, model_repository"
    assert found["device"].found.startswith("CPUExecutionProvider opens")
    assert found["model lenet/1"].verdict is GOOD
    assert found["memory"].verdict is GOOD
    assert len(found) == len(findings)


def test_what_is_not_good_says_what_to_do(repository: Path) -> None:
    add_model(repository, "broken", b"no model")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        findings = list(examine(["--model-repository", str(repository), "--grpc-address", address]))

    assert [f.check for f in findings if f.verdict is BAD] == ["grpc_address", "model broken/1"]
    assert [f for f in findings if (f.verdict is GOOD) == bool(f.advice)] == []


class TestSettings:
    def test_a_variable_that_names_no_setting_is_bad(self) -> None:
        settings, findings = configuration([], {"FEATURELENS_MAX_BACH_SIZE": "8"})

        assert settings == Settings()
        assert [f.verdict for f in findings] == [BAD, GOOD]
        assert findings[0].found == "no setting is called FEATURELENS_MAX_BACH_SIZE"
        assert "serve --help" in findings[0].advice

    def test_a_wrong_value_is_bad_and_the_rest_is_checked_with_defaults(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FEATURELENS_INSTANCES", "none")
        settings, findings = configuration(["--max-batch-size", "0"])

        assert settings.max_batch_size == Settings.model_fields["max_batch_size"].default
        assert [f.verdict for f in findings] == [BAD, BAD]
        assert {f.found.partition(":")[0] for f in findings} == {"max_batch_size", "instances"}

    def test_flags_and_variables_are_settings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FEATURELENS_INSTANCES", "3")
        settings, findings = configuration(["--device", "cpu"])

        assert (settings.instances, settings.device) == (3, "cpu")
        assert [f.found for f in findings] == ["set: device, instances"]


class TestSoftware:
    @pytest.mark.parametrize(
        ("version", "verdict"), [((3, 10, 9), BAD), ((3, 11, 0), GOOD), ((4, 0, 0), GOOD)]
    )
    def test_python(self, version: tuple[int, ...], verdict: Verdict) -> None:
        assert software.python(version).verdict is verdict

    @pytest.mark.parametrize(
        ("installed", "settings", "expected"),
        [
            pytest.param("onnxruntime grpcio pygrpc-native", {}, [GOOD, GOOD, GOOD], id="all"),
            pytest.param(
                "onnxruntime onnxruntime-gpu grpcio pygrpc-native", {}, [BAD, GOOD, GOOD], id="both"
            ),
            pytest.param("grpcio pygrpc-native", {}, [GOOD, GOOD, GOOD], id="an ONNX Runtime of one's own"),
            pytest.param("onnxruntime grpcio", {}, [GOOD, GOOD, NOTICE], id="slower"),
            pytest.param("onnxruntime grpcio", {"transport": "native"}, [GOOD, GOOD, BAD], id="wanted"),
            pytest.param("onnxruntime grpcio", {"transport": "grpcio"}, [GOOD, GOOD], id="not wanted"),
            pytest.param(
                "onnxruntime grpcio",
                {"transport": "grpcio", "trace_endpoint": "http://127.0.0.1:4317"},
                [GOOD, GOOD, BAD],
                id="no traces",
            ),
        ],
    )
    def test_packages(self, installed: str, settings: dict[str, str], expected: list[Verdict]) -> None:
        versions = dict.fromkeys(installed.split(), "1.0")
        findings = software.packages(Settings.model_validate(settings), versions.get)

        assert [finding.verdict for finding in findings] == expected


class TestMachine:
    @pytest.mark.parametrize(
        ("settings", "verdict"),
        [
            ({}, GOOD),
            ({"threads": 4}, GOOD),
            ({"threads": 5}, NOTICE),
            ({"workers": 5}, NOTICE),
            ({"workers": "auto"}, GOOD),
        ],
    )
    def test_cpus(self, settings: dict[str, object], verdict: Verdict) -> None:
        finding = machine.cpus(Settings.model_validate(settings), available=4, installed=16)

        assert finding.verdict is verdict
        assert finding.found.startswith("4 of 16")

    @pytest.mark.parametrize(
        ("settings", "limit_mib", "verdict"),
        [
            pytest.param({}, None, GOOD, id="no limit"),
            pytest.param({}, 512, GOOD, id="enough"),
            pytest.param({}, 120, NOTICE, id="hardly"),
            pytest.param({}, 99, BAD, id="too little"),
            pytest.param({"workers": 6}, 512, BAD, id="for each worker"),
            pytest.param({"workers": "auto"}, 512, GOOD, id="for a worker a CPU"),
            pytest.param({"response_cache_mib": 450}, 512, BAD, id="with its cache"),
        ],
    )
    def test_memory(self, settings: dict[str, object], limit_mib: int | None, verdict: Verdict) -> None:
        limit = None if limit_mib is None else limit_mib * MiB
        finding = machine.memory(Settings.model_validate(settings), 100 * MiB, limit, cpus=2)

        assert finding.verdict is verdict

    @pytest.mark.parametrize(("most", "verdict"), [(64, BAD), (1024, NOTICE), (4096, GOOD), (-1, GOOD)])
    def test_open_files(self, most: int, verdict: Verdict) -> None:
        assert machine.open_files(most).verdict is verdict

    @pytest.mark.parametrize(
        ("left", "workers", "verdict"), [(500, 1, GOOD), (100, 1, NOTICE), (500, 4, NOTICE)]
    )
    def test_threads(self, left: int, workers: int, verdict: Verdict) -> None:
        assert machine.threads(Settings(workers=workers), cpus=1, left=left).verdict is verdict

    def test_a_clock_in_the_past_is_bad(self) -> None:
        assert machine.clock(0.0).verdict is BAD
        assert machine.clock().verdict is GOOD


class TestControlGroups:
    @pytest.mark.parametrize(
        ("files", "memory", "threads"),
        [
            pytest.param({}, None, None, id="none"),
            pytest.param(
                {
                    "proc/self/cgroup": "0::/box/inner\n",
                    "sys/fs/cgroup/box/inner/memory.max": "max\n",
                    "sys/fs/cgroup/box/memory.max": "1048576\n",
                    "sys/fs/cgroup/box/inner/pids.max": "100\n",
                    "sys/fs/cgroup/box/inner/pids.current": "40\n",
                    "sys/fs/cgroup/box/pids.max": "max\n",
                },
                MiB,
                60,
                id="version 2",
            ),
            pytest.param(
                {
                    "proc/self/cgroup": "4:memory:/box\n3:pids:/box\n",
                    "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "1048576\n",
                    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                    "sys/fs/cgroup/pids/box/pids.max": "100\n",
                },
                MiB,
                100,
                id="version 1",
            ),
        ],
    )
    def test_limits(
        self, tmp_path: Path, files: dict[str, str], memory: int | None, threads: int | None
    ) -> None:
        root = mounted(tmp_path, files)

        assert (memory_limit(root), process_limit(root)) == (memory, threads)

    def test_a_container_without_a_limit_has_the_machines_memory(self, tmp_path: Path) -> None:
        root = mounted(tmp_path, {"proc/meminfo": "MemFree: 1 kB\nMemTotal:       2048 kB\n"})

        assert machine.memory_bytes(root) == 2 * MiB


class TestAddresses:
    @pytest.mark.parametrize(
        ("address", "verdict"),
        [
            ("127.0.0.1:0", GOOD),
            ("localhost:0", GOOD),
            ("[::]:0", GOOD),
            ("unix:/run/featurelens.sock", GOOD),
            ("192.0.2.1:8001", BAD),  # an address for documents, of no machine
            ("nowhere.invalid:8001", BAD),
            ("127.0.0.1:70000", BAD),
            ("127.0.0.1", BAD),
            (":8001", BAD),
        ],
    )
    def test_an_address(self, address: str, verdict: Verdict) -> None:
        found = by_check(network.addresses(Settings(grpc_address=address)))

        assert found["grpc_address"].verdict is verdict

    def test_an_address_in_use_is_bad(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            finding = by_check(network.addresses(Settings(grpc_address=address)))["grpc_address"]

        assert finding.verdict is BAD
        assert finding.found == f"{address}: {os.strerror(errno.EADDRINUSE)}"
        assert finding.advice.endswith("--grpc-address")

    @pytest.mark.parametrize(("chosen", "verdict"), [(False, NOTICE), (True, BAD)])
    def test_metrics_are_done_without_unless_their_address_was_chosen(
        self, chosen: bool, verdict: Verdict
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            settings = Settings(metrics_address=address)
            if not chosen:
                settings = Settings.model_construct(_fields_set=set(), **settings.model_dump())
            findings = by_check(network.addresses(settings))

        assert findings["metrics_address"].verdict is verdict


class TestCollectors:
    def test_without_traces_there_is_none_to_check(self) -> None:
        assert network.collectors(Settings()) == []

    def test_one_that_can_be_reached_is_good(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as collector:
            endpoint = f"http://127.0.0.1:{collector.getsockname()[1]}"
            (finding,) = network.collectors(Settings(trace_endpoint=endpoint))

        assert finding.verdict is GOOD

    @pytest.mark.parametrize("host", ["127.0.0.1:{free}", "nowhere.invalid", "127.0.0.1:many"])
    def test_one_that_can_not_is_worth_knowing(self, host: str) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            endpoint = f"http://{host.format(free=nobody.getsockname()[1])}"
            (finding,) = network.collectors(Settings(trace_endpoint=endpoint))

        assert finding.verdict is NOTICE
        assert finding.found.startswith(endpoint)


class TestFolders:
    def test_a_folder_that_can_be_written_to_is_good(self, tmp_path: Path) -> None:
        findings = files.folders(Settings(tensorrt_cache=tmp_path / "new"), tmp_path)

        assert [(f.check, f.verdict) for f in findings] == [
            ("temporary files", GOOD),
            ("tensorrt_cache", GOOD),
        ]
        assert list(tmp_path.rglob("*")) == [tmp_path / "new"]

    def test_one_that_can_not_is_bad(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        findings = files.folders(Settings(tensorrt_cache=tmp_path / "file" / "x"), tmp_path / "file")

        assert [f.verdict for f in findings] == [BAD, BAD]
        assert all("can't be written to" in f.found for f in findings)


class TestModels:
    def test_a_device_that_is_not_there_is_bad(self) -> None:
        finding = models.device(Settings(device="cuda"))

        assert finding.verdict is BAD
        assert "CUDAExecutionProvider" in finding.found
        assert "featurelens[cuda]" in finding.advice

    @pytest.mark.parametrize(
        ("break_it", "check", "text"),
        [
            pytest.param(
                lambda root: add_model(root, "b", b"x"), "model b/1", "can't be loaded", id="no model"
            ),
            pytest.param(
                lambda root: (root / "lenet" / "2").mkdir(), "model lenet/2", "is missing", id="no file"
            ),
            pytest.param(
                lambda root: (
                    add_model(root, "b", onnx_models.lenet()),
                    (root / "b" / "config.toml").write_text("lables = []"),
                ),
                "model b/1",
                "config.toml",
                id="wrong config.toml",
            ),
        ],
    )
    def test_a_broken_model_is_bad_and_the_others_are_good(
        self, repository: Path, break_it: Callable[[Path], object], check: str, text: str
    ) -> None:
        break_it(repository)
        findings = by_check(models.models(Settings(model_repository=repository, device="cpu")))

        assert findings["model lenet/1"].verdict is GOOD
        assert findings[check].verdict is BAD
        assert text in findings[check].found

    def test_a_repository_that_is_missing_is_bad(self, tmp_path: Path) -> None:
        (finding,) = models.models(Settings(model_repository=tmp_path / "nope", device="cpu"))

        assert finding.verdict is BAD
        assert "is not a folder" in finding.found

    def test_what_is_ignored_is_worth_knowing(self, repository: Path) -> None:
        (repository / "empty").mkdir()
        findings = by_check(models.models(Settings(model_repository=repository, device="cpu")))

        assert findings["model repository"].verdict is NOTICE
        assert findings["model repository"].found == "empty is ignored: it holds no version"
