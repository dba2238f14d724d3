"""ONNX Runtime in a loop, to see what the model alone costs: `python -m benchmarks.speed.loop`.

Each line of its input, `BATCH SECONDS`, is answered with a line of JSON. It stays around between them, so
that it is measured in turn with the servers.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from statistics import mean
from subprocess import Popen

import numpy as np
import onnxruntime as ort

from benchmarks.speed.digits import batch
from benchmarks.speed.reference import INPUT, MODEL, OUTPUT
from benchmarks.speed.results import Measurement

COMMAND = (sys.executable, "-m", "benchmarks.speed.loop")
_WARM_UP_RUNS = 10


def session() -> ort.InferenceSession:
    """Return a session of one thread: more processes gain more than more threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])


def run(model: ort.InferenceSession, size: int, seconds: float) -> dict[str, float]:
    """Run batches of that size, one after the other."""
    feeds = {INPUT: batch(0, size)}
    for _ in range(_WARM_UP_RUNS):
        model.run([OUTPUT], feeds)
    times = [start := time.perf_counter()]
    while times[-1] < start + seconds:
        model.run([OUTPUT], feeds)
        times.append(time.perf_counter())
    p50, p99 = np.percentile(np.diff(times) * 1000, [50, 99]).tolist()
    return {"images_per_s": size * (len(times) - 1) / (times[-1] - start), "p50_ms": p50, "p99_ms": p99}


def measure(loops: Sequence[Popen[str]], size: int, seconds: float) -> Measurement:
    """Let these programs run at once; the rates add up, the times are their mean."""
    for loop in loops:
        assert loop.stdin is not None
        loop.stdin.write(f"{size} {seconds}\n")
        loop.stdin.flush()
    answers = [json.loads(loop.stdout.readline()) for loop in loops if loop.stdout is not None]
    return Measurement(
        images_per_s=sum(answer["images_per_s"] for answer in answers),
        p50_ms=mean(answer["p50_ms"] for answer in answers),
        p99_ms=mean(answer["p99_ms"] for answer in answers),
    )


def main() -> None:
    """Answer lines until the input ends."""
    model = session()
    print("ready", flush=True)
    for line in sys.stdin:
        size, seconds = line.split()
        print(json.dumps(run(model, int(size), float(seconds))), flush=True)


if __name__ == "__main__":
    main()
