"""Swaps a model again and again and compares what the server holds: `python -m tests.e2e.swaps COUNT`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import grpc
import numpy as np
import onnx

from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.inference import messages as pb
from tests.e2e.footprint import Footprint
from tests.e2e.processes import server_process
from tests.service import onnx_models
from tests.service.live.repositories import ask, configure, put
from tests.service.oip.stub import InferenceStub

MOST_GROWTH_MIB = 32
"""Eight of the models that are swapped."""
MOST_MORE_THREADS = 8
"""Pools fill up as they are needed, lanes are ended a little later. A leak would be one a swap."""
WIDTH = 1000


def heavy(number: int) -> onnx.ModelProto:
    """A model with 4 MB of weights that tells its version as those of `repositories.version` do."""
    nodes = [
        onnx_models.node("MatMul", "x spread", "wide"),
        onnx_models.node("MatMul", "wide mixed", "as_wide"),
        onnx_models.node("MatMul", "as_wide gathered", "scores"),
    ]
    spread, gathered = np.zeros((2, WIDTH), np.float32), np.zeros((WIDTH, 2), np.float32)
    spread[1, 0], gathered[0, 1] = 1, 3 * number
    weights = {"spread": spread, "mixed": np.eye(WIDTH, dtype=np.float32), "gathered": gathered}
    x, scores = (onnx_models.value(name, ["n", 2]) for name in ("x", "scores"))
    return onnx_models.model(nodes, [x], [scores], weights)


def run(folder: Path, count: int, *flags: str) -> tuple[Footprint, Footprint]:
    """Swap so often, each time with an answer; measure after a fifth of the swaps and at the end."""
    put(folder, "tiny", 1, heavy(1))
    configure(folder, "tiny", "")
    first = max(2, count // 5)
    arguments = ("--model-repository", str(folder), "--no-watch", "--model-control", *flags)
    with server_process(*arguments) as server, grpc.insecure_channel(server.address) as channel:
        classifier, inference = ClassifierStub(channel), InferenceStub(channel)
        before = None
        for number in range(2, count + 2):
            put(folder, "tiny", number, heavy(number))
            inference.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="tiny"))
            shutil.rmtree(folder / "tiny" / str(number - 1))
            assert ask(classifier) == (str(number), float(number))
            if number == first:
                before = Footprint.of(server.process.pid)
        assert before is not None
        return before, Footprint.of(server.process.pid)


def leaks(before: Footprint, after: Footprint) -> str:
    """Tell what has grown; "" if nothing has."""
    grown = {
        "memory": after.rss_mib - before.rss_mib > MOST_GROWTH_MIB,
        "descriptors": after.descriptors > before.descriptors,
        "threads": after.threads > before.threads + MOST_MORE_THREADS,
    }
    return ", ".join(name for name, has in grown.items() if has)


def main(count: int) -> int:
    """Swap without trials, which would take most of the time, and a tenth as often with them."""
    failed = False
    for swaps, flags in ((count, ("--trial-timeout-s", "0")), (count // 10, ())):
        with tempfile.TemporaryDirectory() as folder:
            before, after = run(Path(folder), swaps, *flags)
        failed |= bool(grown := leaks(before, after))
        sys.stdout.write(f"{swaps} swaps: {before} -> {after} {grown or 'flat'}\n")
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
