"""How a model classifies: which tensor is the image, which holds the classes, what they are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import TypeAdapter, ValidationError

from service.errors import ModelLoadError
from service.graph import TensorSpec
from service.model import Model
from service.model_config import ModelConfig
from service.preprocess import Preprocessing

_LABELS = TypeAdapter(tuple[str, ...])


@dataclass(frozen=True, slots=True)
class Classifier:
    """One input, one output with a class on its last axis, and the labels of the classes."""

    input: TensorSpec
    output: str
    softmax: bool
    labels: tuple[str, ...]
    preprocessing: Preprocessing

    @classmethod
    def of(cls, model: Model, config: ModelConfig) -> Classifier | None:
        """Find out how a model classifies; None for one that doesn't.

        Raises:
            ModelLoadError: config.toml or the file's metadata contradicts the graph.
        """
        output = _output(model, config)
        if output is None or len(model.inputs) != 1:
            return None
        return cls(
            input=model.inputs[0],
            output=output.name,
            softmax=_needs_softmax(model, config, output.name),
            labels=_labels(model, config, _classes(output)),
            preprocessing=_preprocessing(model, config),
        )

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
    return spec if _classes(spec) else None


def _classes(spec: TensorSpec) -> int:
    """Return K of a float tensor [N, K] or [N, 1, ..., K] with a K that is known; 0 for any other."""
    if spec.dtype is None or spec.dtype.kind != "f" or spec.shape is None or len(spec.shape) < 2:
        return 0
    *others, classes = spec.shape[1:]
    return classes or 0 if all(size == 1 for size in others) else 0


def _needs_softmax(model: Model, config: ModelConfig, output: str) -> bool:
    if config.softmax is not None:
        return config.softmax
    layer = model.graph.layers.get(output)
    return layer is None or layer.op_type != "Softmax"


def _labels(model: Model, config: ModelConfig, classes: int) -> tuple[str, ...]:
    labels = config.labels or _labels_in_file(model) or tuple(map(str, range(classes)))
    if len(labels) != classes:
        raise ModelLoadError(f"there are {len(labels)} labels for {classes} classes; give one for each")
    return labels


def _labels_in_file(model: Model) -> tuple[str, ...]:
    try:
        return _LABELS.validate_json(model.metadata.get("featurelens.labels", "[]"))
    except ValidationError as error:
        raise ModelLoadError('the metadata "featurelens.labels" is not a JSON list of strings') from error


def _preprocessing(model: Model, config: ModelConfig) -> Preprocessing:
    described = model.metadata.get("featurelens.preprocessing")
    if config.preprocessing is None and described is not None:
        return Preprocessing.from_json(described)
    return config.preprocessing or Preprocessing(kind="none")


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Return exp(z) / sum(exp(z)) over the last axis, shifted by the maximum so that nothing overflows."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))
