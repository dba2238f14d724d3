"""Serves model files that other people's tools wrote: `python -m tests.foreign [NAME...]`.

The files are made in out/foreign on first use; what was found is written to out/foreign/models.md.
"""

from __future__ import annotations

import sys
from itertools import chain
from pathlib import Path

from service.logs import configure_logs
from tests.foreign import from_keras, from_torch, from_trees, newcomer, packaged, reduced, report

_FOLDER = Path("out/foreign")

configure_logs("auto", "error")
# Reduced files are made of those that torch leaves.
makers = (from_torch, reduced, from_trees, from_keras, packaged)
models = [
    model
    for model in chain.from_iterable(maker.models(_FOLDER / "cache") for maker in makers)
    if not sys.argv[1:] or model.name in sys.argv[1:]
]
wrong = []
for transport in ("grpcio", "native"):
    found = report.run(models, transport, each_layer=transport == "native")
    sys.stdout.write(f"{transport}\n\n{report.table(found)}\n\n")
    wrong += [f"WRONG {transport}: {problem}\n" for problem in report.problems(found)]
(_FOLDER / "models.md").write_text(f"{report.table(found)}\n")
if not sys.argv[1:]:
    sys.stdout.writelines(f"{line}\n" for line in newcomer.run())
sys.stdout.writelines(wrong)
sys.exit(bool(wrong))
