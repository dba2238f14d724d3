"""A config.toml for a model: what somebody has chosen, and as comments what is still open."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import tomlkit

from service.classifier import Classifier
from service.heads import Kind
from service.model_config import ModelConfig, parsed_config
from service.picture_shape import PictureShape, picture_shape
from service.repository import ServedModel

IMAGENET_CLASSES = 1000
_COLORS = 3
_USUAL_SIDE = 224
_INTRODUCTION = """\
# What the server is to know of this model besides its file. A line behind # is a proposal:
# correct it and take the # away.
"""


@dataclass(frozen=True, slots=True)
class Choices:
    """What somebody wants config.toml to say.

    Attributes:
        preset: Whose way of preparing pictures the model was trained with; None: not told.
        labels: Names of the classes, or a name for all of them; None: not told.
    """

    preset: str | None = None
    labels: Sequence[str] | str | None = None

    def config(self) -> ModelConfig:
        """Return what a config.toml of them alone means.

        Raises:
            ModelLoadError: It can't be.
        """
        return parsed_config("\n".join([*self.top_lines(), *self.preprocessing_lines()]))

    def top_lines(self) -> Iterator[str]:
        """Yield the lines before the first table."""
        if self.labels is not None:
            names = self.labels if isinstance(self.labels, str) else list(self.labels)
            yield f"labels = {tomlkit.item(names).as_string()}"

    def preprocessing_lines(self) -> Iterator[str]:
        """Yield the table of the preprocessing."""
        if self.preset is not None:
            yield from ("", "[preprocessing]", f'preset = "{self.preset}"')


def draft(served: ServedModel, choices: Choices) -> str:
    """Return a config.toml with the choices as lines, and the rest of what it should say as comments."""
    classifier = served.classifier_or_none
    lines = [_INTRODUCTION, *choices.top_lines()]
    if classifier is None:
        lines += [f"# no image classifier: {served.not_a_classifier}", *choices.preprocessing_lines()]
    else:
        lines += _open_labels(classifier)
        lines += (
            [f'# head = "{classifier.head.kind}"   # {classifier.head.reason}']
            if _is_guess(classifier)
            else []
        )
        lines += choices.preprocessing_lines()
        shape = picture_shape(classifier.input)
        if classifier.preprocessing.kind == "none" and shape is not None:
            lines += ["", *_proposal(shape)]
    return "\n".join([*lines, ""])


def _open_labels(classifier: Classifier) -> Iterator[str]:
    if not classifier.is_numbered:
        return
    if len(classifier.labels) == IMAGENET_CLASSES:
        yield '# labels = "imagenet-1k"   # if it was trained on ImageNet'
    else:
        count = len(classifier.labels)
        yield f'# labels_file = "labels.txt"   # beside this file: {count} lines, a label each'


def _is_guess(classifier: Classifier) -> bool:
    return classifier.head.kind in (Kind.LOGITS, Kind.SIGMOID_LOGITS)


def _proposal(shape: PictureShape) -> Iterator[str]:
    """Yield a table that the server takes; what it doesn't say is taken from the input."""
    yield "# [preprocessing]"
    if shape.channels == _COLORS:
        yield '# preset = "torchvision"   # or "timm" or "huggingface": as it was trained to see pictures'
        return
    yield '# kind = "resize"   # values are (level / 255 - mean) / std'
    for key in ("height", "width"):
        if getattr(shape, key) is None:
            yield f"# {key} = {_USUAL_SIDE}"
    yield f"# mean = {[0.0] * shape.channels}"
    yield f"# std = {[1.0] * shape.channels}"
