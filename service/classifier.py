"""How a model classifies: which tensor is the image, which holds the classes, what they are called."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import ValidationError

from service.errors import InvalidRequestError, ModelLoadError
from service.graph import TensorSpec
from service.model import Model
from service.model_config import ModelConfig
from service.preprocess import Preprocessing


@dataclass(frozen=True, slots=True)
class Classifier:
    """One input, one output with a class on its last axis, and the labels of the classes."""

    input: TensorSpec
    output: str
    softmax: bool
    labels: tuple[str, ...]
    preprocessing: Preprocessing | None

    @classmethod
    def of(cls, model: Model, config: ModelConfig) -> Classifier | None:
        """Find out how a model classifies; None for one that doesn't.

        Raises:
            ModelLoadError: config.toml or the file's metadata contradicts the graph.
        """
        output = _output(model, config)
        if output is None or len(model.inputs) != 1 or not isinstance(output.shape[-1], int):
            return None
        return cls(
            input=model.inputs[0],
            output=output.name,
            softmax=_needs_softmax(model, config, output.name),
            labels=_labels(model, config, output.shape[-1]),
            preprocessing=_preprocessing(model, config),
        )

    def image_preprocessing(self) -> Preprocessing:
        """Return how images are made into the input.

        Raises:
            InvalidRequestError: nothing tells, so the model takes tensors only.
        """
        if self.preprocessing is None:
            raise InvalidRequestError(
                "this model doesn't say how images become its input: send a tensor, or give it a config.toml"
                " with a [preprocessing] table"
            )
        return self.preprocessing

    def probabilities(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the class probabilities, float32 [N, K], of a run's outputs."""
        values = outputs[self.output].astype(np.float32, copy=False)
        values = values.reshape(len(values), len(self.labels))
        return _softmax(values) if self.softmax else values


def _output(model: Model, config: ModelConfig) -> TensorSpec | None:
    by_name = {spec.name: spec for spec in model.outputs}
    if config.output is not None and config.output not in by_name:
        raise ModelLoadError(f'config.toml: output "{config.output}" is none of {", ".join(by_name)}')
    if config.output is None and len(by_name) != 1:
        return None
    spec = by_name[config.output or next(iter(by_name))]
    is_classes = len(spec.shape) >= 2 and spec.dtype is not None and spec.dtype.kind == "f"
    return spec if is_classes and all(size == 1 for size in spec.shape[1:-1]) else None


def _needs_softmax(model: Model, config: ModelConfig, output: str) -> bool:
    if config.softmax is not None:
        return config.softmax
    layer = model.graph.layers.get(output)
    return layer is None or layer.op_type != "Softmax"


def _labels(model: Model, config: ModelConfig, classes: int) -> tuple[str, ...]:
    labels = config.labels or tuple(map(str, _metadata(model, "labels") or range(classes)))
    if len(labels) != classes:
        raise ModelLoadError(f"there are {len(labels)} labels for {classes} classes; give one for each")
    return labels


def _preprocessing(model: Model, config: ModelConfig) -> Preprocessing | None:
    if config.preprocessing is not None:
        return config.preprocessing
    if (described := _metadata(model, "preprocessing")) is None:
        return None
    try:
        return Preprocessing.model_validate(described)
    except ValidationError as error:
        raise ModelLoadError(f"the file's metadata featurelens.preprocessing is wrong: {error}") from error


def _metadata(model: Model, key: str) -> object:
    try:
        return json.loads(model.metadata.get(f"featurelens.{key}", "null"))
    except json.JSONDecodeError as error:
        raise ModelLoadError(f"the file's metadata featurelens.{key} is not JSON: {error}") from error


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Return exp(z) / sum(exp(z)) over the last axis, shifted by the maximum so that nothing overflows."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))
