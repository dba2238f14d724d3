"""What the clients return: the contract's answers as plain, frozen, typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy.typing as npt

from featurelens.errors import FeaturelensError
from featurelens.feature_maps import FeatureMaps

Array: TypeAlias = npt.NDArray[Any]  # of the dtype that the layer has


@dataclass(frozen=True, slots=True)
class Score:
    """One label and its probability, 0 to 1; `index` is the label's position in the model's list."""

    index: int
    label: str
    probability: float


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of a call went on the server, in nanoseconds, and how many images shared the run."""

    decode_ns: int
    queue_ns: int
    compute_ns: int
    run_batch_size: int


@dataclass(frozen=True, slots=True)
class ImageWarning:
    """Something about an image: a code for programs, such as "no_ink", and a sentence for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What the model makes of one image.

    Attributes:
        scores: labels, most probable first, as many as were asked for.
        feature_maps: by layer name, what the layer computes for this image alone. Read-only. Layers that
            follow the batch come without its axis: conv1 of LeNet is float32 [6, 28, 28]. The others come as
            they are: time first, say, is [time, 1, features].
            A map that was asked for by a module path, such as layer3, is found under that too.
        input: the model's input for this image, without the batch axis, if it was asked for. Read-only.
        model: name, `version` and `digest` (SHA-256 of its files) of the model that answered.
        timings: of the call, which other images may have shared.
        warnings: what makes the answer doubtful, such as that no ink was found in the picture.
    """

    scores: tuple[Score, ...]
    model: str
    version: str
    digest: str
    timings: Timings
    feature_maps: FeatureMaps = field(default_factory=lambda: FeatureMaps({}), repr=False)
    input: Array | None = field(default=None, repr=False)
    warnings: tuple[ImageWarning, ...] = ()

    @property
    def label(self) -> str:
        """The most probable label."""
        return self.scores[0].label

    @property
    def probability(self) -> float:
        """The probability of that label."""
        return self.scores[0].probability


# What became of one image of a stream.
Outcome: TypeAlias = Prediction | FeaturelensError


@dataclass(frozen=True, slots=True)
class ModelSummary:
    """One version of one model; `state` is "LOADING", "READY" or "UNAVAILABLE", `reason` says why not."""

    name: str
    version: str
    state: str
    reason: str
    digest: str
    provider: str
    labels: tuple[str, ...] = ()
    """Names that may be given for this version in place of its number."""


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What an element of a feature map sees of the input, per spatial axis, in pixels.

    Element i sees start + i*jump to start + i*jump + size - 1 (Araujo, Norris, Sim, Distill 2019).
    """

    size: tuple[int, ...]
    jump: tuple[int, ...]
    start: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One tensor that the graph computes, and its operator; -1 in a shape: not known before a run."""

    name: str
    op_type: str
    module: str
    inputs: tuple[str, ...]
    dtype: str
    output_shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    group: int
    parameters: int
    receptive_field: ReceptiveField | None
    weights: tuple[Array, ...] = field(repr=False)
    auxiliary: bool = False
    """Left out of "all layers": it depends on sizes alone, or isn't in the file's table of layers."""
    channel_axis: int = 0
    """The axis that holds channels, counted from the last, which is -1; 0: unknown."""
    aliases: tuple[str, ...] = ()
    """Module paths that may be asked for in place of the name."""
    follows_batch: bool = True
    """Whether axis 0 is the batch, so that an image's feature map has one axis less than `output_shape`."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Name, type and shape of a model's input or output; -1: any size."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    channel_axis: int = 0
    """The axis that holds channels, counted from the last, which is -1; 0: unknown."""


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How images become the model's input: kind, size in pixels, and one sentence for people.

    `layout` is the order of the input's axes, such as "NCHW"; `color` is "RGB" or "BGR".
    """

    kind: str
    channels: int
    height: int
    width: int
    description: str
    layout: str = "NCHW"
    color: str = "RGB"


@dataclass(frozen=True, slots=True)
class Head:
    """How the output that holds the classes becomes probabilities, and how that was decided.

    Attributes:
        output: name of the output.
        kind: "softmax", "logits", "log_softmax", "sigmoid" or "sigmoid_logits".
        multi_label: whether several labels of an image can be true at once.
        reason: one sentence for people.
    """

    output: str
    kind: str
    multi_label: bool
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class ModelDescription:
    """A model: what it takes, what it returns and every layer that can be asked for, in graph order.

    If layers were named, these alone are described, and `resolved` has the layer that each module path means.
    """

    name: str
    version: str
    digest: str
    provider: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    layers: tuple[Layer, ...]
    parameters: int
    opset: int
    producer: str
    metadata: Mapping[str, str] = field(repr=False)
    resolved: Mapping[str, str] = field(default_factory=dict, repr=False)
    fixed_batch: int = 0
    """Images of every run, if the model takes no other number: the server fills runs up. 0: any number."""
    head: Head | None = None
    """None for a model that is no classifier."""
    not_a_classifier: str = ""
    """Why it is none, and what in its config.toml would make it one."""
