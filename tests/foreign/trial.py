"""Puts one model through everything that can be asked of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np

from protos.featurelens.v1 import classifier_pb2 as pb
from tests.foreign.comparison import Differences
from tests.foreign.direct import Direct
from tests.foreign.model import Array, Feeds, ForeignModel
from tests.foreign.served import Served

CALLERS = 4
BATCH = 4
"""The server's largest batch here; a request of ITEMS takes two slices."""
ITEMS = 6
_CLASSIFIED = 3


@dataclass(frozen=True)
class Found:
    """What a trial of a model found: a row of the table."""

    model: ForeignModel
    inputs: str
    head: str
    layers: int
    followers: int
    largest: float
    seconds: float
    wrong: tuple[str, ...]


def judge(served: Served, model: ForeignModel, file: Path, *, each_layer: bool) -> Found:
    """Compare what is served of a model with ONNX Runtime's own results.

    With `each_layer`, every layer is also asked for by itself: what may share a run or be sliced depends on
    all that is asked for.
    """
    started = time.perf_counter()
    try:
        trial = _Trial(served, model, file, each_layer=each_layer)
    except grpc.RpcError as error:
        return Found(model, "", "", 0, 0, 0.0, time.perf_counter() - started, (_status(error),))
    wrong = []
    for check in (trial.alone, trial.shared, trial.sliced, trial.classified):
        try:
            check()
        except grpc.RpcError as error:
            wrong.append(f"{check.__name__}: {_status(error)}")
    described = trial.described
    return Found(
        model,
        ", ".join(f"{tensor.name} {list(tensor.shape)}".replace("-1", "any") for tensor in described.inputs),
        described.head.kind if described.HasField("head") else "",
        len(described.layers),
        sum(layer.follows_batch for layer in described.layers),
        trial.differences.largest,
        time.perf_counter() - started,
        (*wrong, *(f'"{name}", {problem}' for name, problem in trial.differences.wrong.items())),
    )


class _Trial:
    def __init__(self, served: Served, model: ForeignModel, file: Path, *, each_layer: bool) -> None:
        self._served = served
        self._model = model
        self.described = served.describe(model.name)
        outputs = (output.name for output in self.described.outputs)
        layers = (layer.name for layer in self.described.layers)
        self._names = list(dict.fromkeys((*outputs, *layers)))
        self._direct = Direct(file, self._names)
        self._each_layer = each_layer
        each = [[name] for name in self._names] if each_layer else []
        self._output_sets: list[Sequence[str]] = [(), self._names, *each]
        self._rng = np.random.default_rng(1)
        self.differences = Differences(model.precision)

    def alone(self) -> None:
        """One caller: the declared outputs, and every layer."""
        expected = self._direct(feeds := self._feeds(self._least))
        self._compare("declared", self._infer(feeds), expected)
        self._compare("all layers", self._infer(feeds, self._names), expected)

    def shared(self) -> None:
        """Four callers at once, each with its own inputs, as a run may hold all of them."""
        requests = [self._feeds(self._least) for _ in range(CALLERS)]
        expected = [self._direct(feeds) for feeds in requests]
        for outputs in self._output_sets:
            answers = self._served.infer_together(self._model.name, requests, outputs)
            for answer, tensors in zip(answers, expected, strict=True):
                self._compare("shared", answer, tensors)
        follow = any(layer.follows_batch for layer in self.described.layers) and not self._model.fixed_batch
        if follow and self._each_layer and self._served.items_per_run(self._model.name) <= 1:
            self.differences.wrong["shared"] = "no callers shared a run, so that was not tried"

    def sliced(self) -> None:
        """A request that is longer than a batch may be; a fixed batch is cut for Classify alone."""
        if self._model.fixed_batch:
            return
        expected = self._direct(feeds := self._feeds(ITEMS))
        for outputs in self._output_sets:
            self._compare("sliced", self._infer(feeds, outputs), expected)

    def classified(self) -> None:
        """Probabilities and layers of each image alone, if the model is a classifier, which must be known."""
        kind = self.described.head.kind if self.described.HasField("head") else ""
        if kind != self._model.head:
            said = f'the head is "{kind}" ({self.described.head.reason or self.described.not_a_classifier})'
            self.differences.wrong[f"head {self._model.head}"] = said
        if not kind or not self._model.head:
            return
        (tensor,) = self._feeds(_CLASSIFIED).values()
        names = [layer.name for layer in self.described.layers if self._is_of_an_image(layer)]
        classes = self._served.classify(self._model.name, tensor, names)
        for item in range(_CLASSIFIED):
            expected = self._of_an_image(tensor[item : item + 1])
            scores = expected[self.described.head.output]
            self.differences.add(
                "classified",
                {"probabilities": classes.probabilities(item)},
                {"probabilities": probabilities(scores, self._model.head)},
            )
            self.differences.add(
                "of an image", classes.layers(item), {name: expected[name] for name in names}
            )

    def _is_of_an_image(self, layer: pb.Layer) -> bool:
        """Tell whether Classify can return a layer: no text, and no fixed batch of several without rows."""
        return bool(layer.data_type) and (self._least == 1 or layer.follows_batch)

    def _of_an_image(self, image: Array) -> dict[str, Array]:
        """Return what ONNX Runtime computes for one image [1, ...]; a fixed batch is filled with it."""
        batch = self._least
        found = self._direct({self.described.inputs[0].name: np.repeat(image, batch, axis=0)})
        return found if batch == 1 else {name: value[:1] for name, value in found.items() if value.ndim}

    @property
    def _least(self) -> int:
        return self._model.fixed_batch or 1

    def _feeds(self, items: int) -> Feeds:
        return self._model.feed(self._rng, items)

    def _infer(self, feeds: Feeds, outputs: Sequence[str] = ()) -> dict[str, Array]:
        return self._served.infer(self._model.name, feeds, outputs)

    def _compare(self, what: str, answer: dict[str, Array], expected: Mapping[str, Array]) -> None:
        self.differences.add(what, answer, {name: expected[name] for name in answer})


def probabilities(scores: Array, head: str) -> Array:
    """Return the probabilities of one item that the output of a head means."""
    values = scores.reshape(-1).astype(np.float64)
    if head == "logits":
        values = np.exp(values - values.max())
        return np.asarray(values / values.sum())
    if head == "log_softmax":
        return np.asarray(np.exp(values))
    if head == "sigmoid_logits":
        return np.asarray(1 / (1 + np.exp(-values)))
    return values


def _status(error: grpc.RpcError) -> str:
    assert isinstance(error, grpc.Call)
    return f"{error.code().name}: {error.details()}"
