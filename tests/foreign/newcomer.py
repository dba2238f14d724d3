"""The path of somebody new, as docs/own-model.md tells it: its commands, run and timed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

_ROOT = Path(__file__).resolve().parents[2]
_DOCUMENT = _ROOT / "docs" / "own-model.md"
_SERVING = re.compile(r"featurelens is serving \S+ on (\S+)\n")


def commands() -> list[str]:
    """Return the commands of the document's first block: export, import, serve and classify."""
    block = re.search(r"^```sh\n(.*?)^```$", _DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert block is not None
    return block[1].splitlines()


def run() -> Iterator[str]:
    """Run the commands in an empty folder; yield a line about each."""
    export, put, serve, classify = commands()
    with TemporaryDirectory() as folder:
        Image.linear_gradient("L").convert("RGB").resize((320, 240)).save(Path(folder) / "dog.jpg")
        code = shlex.split(export)[2]
        yield _timed([sys.executable, "-c", f"import tests.foreign.vision; {code}"], folder, "export")
        yield _timed(_words(put), folder, "import")
        started = time.perf_counter()
        environment = _environment() | {"FEATURELENS_GRPC_ADDRESS": "127.0.0.1:0"}
        with subprocess.Popen(
            _words(serve),
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as server:
            try:
                assert server.stdout is not None
                address = next(m[1] for line in server.stdout if (m := _SERVING.search(line)))
                yield f"serve: {time.perf_counter() - started:.1f} s until it answers"
                yield _timed(_words(classify), folder, "classify", FEATURELENS_SERVER=address)
                again = [*_words(classify), "--output", "json"]
                answer = subprocess.run(
                    again,
                    cwd=folder,
                    env=_environment(FEATURELENS_SERVER=address),
                    capture_output=True,
                    check=True,
                )
            finally:
                server.terminate()
        (image,) = json.loads(answer.stdout)
        assert not image["label"].isdecimal(), "the classes have no names"
        maps = [path for path in Path(folder, "maps").rglob("*") if path.is_file()]
        assert any("layer3" in path.name and path.suffix == ".png" for path in maps), "there are no maps"
        yield f"classes have names, such as {image['label']}; {len(maps)} files of maps"


def _words(command: str) -> list[str]:
    program, *words = shlex.split(command)
    return [str(Path(sys.executable).with_name(program)), *words]


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_ROOT), "FEATURELENS_DEVICE": "cpu", **more}


def _timed(words: list[str], folder: str, what: str, **environment: str) -> str:
    started = time.perf_counter()
    ended = subprocess.run(
        words, cwd=folder, env=_environment(**environment), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, f"{what}: {ended.stdout}{ended.stderr}"
    return f"{what}: {time.perf_counter() - started:.1f} s"
