"""How a model classifies: which tensor is the image, which holds the classes, what they are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from service.errors import ExecutionError, ModelLoadError
from service.extra_inputs import extra_inputs, repeated
from service.feeds import listed
from service.file_labels import labels_in
from service.find_head import NoHeadError, find_head
from service.graph import TensorSpec
from service.head_trial import ITEMS
from service.heads import Head
from service.model import Model
from service.model_config import CONFIG_FILE, ModelConfig
from service.picture_input import Told, preprocessing_for
from service.preprocessing import Preprocessing
from service.tensors import Array


@dataclass(frozen=True, slots=True)
class NoClassifier:
    """Why a model is no image classifier, and what in config.toml would make it one."""

    reason: str


@dataclass(frozen=True, slots=True)
class Classifier:
    """One input for images, one output with a value for each class, and the labels of the classes.

    A head of one value may have two labels, of the negative and the positive class.
    """

    input: TensorSpec
    head: Head
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    extra_inputs: Mapping[str, Array] = field(default_factory=dict)
    """Values of the other inputs, for one item where their first axis is the batch."""

    @classmethod
    def of(cls, model: Model, config: ModelConfig) -> Classifier | NoClassifier:
        """Find out how a model classifies, or why it doesn't.

        Raises:
            ModelLoadError: config.toml or the file's metadata contradicts the graph.
        """
        extra = extra_inputs(model.inputs, config.extra_inputs)
        problem = None
        try:
            image = _image_input(model, extra)
            try:
                preprocessing = _preprocessing(model, image, config)
            except ModelLoadError as error:  # which matters only if this is a classifier
                problem, preprocessing = error, Preprocessing(kind="none")
            constants = repeated(extra, model.inputs, ITEMS)
            head = find_head(model, image, config, preprocessing, constants)
        except NoHeadError as error:
            return NoClassifier(str(error))
        if problem is not None:
            raise problem
        return cls(image, head, _labels(model, config, head), preprocessing, extra)

    @property
    def is_numbered(self) -> bool:
        """Whether nobody has named the classes: the labels are their numbers."""
        return self.labels == _unnamed(self.head.classes)

    @property
    def output(self) -> str:
        """Name of the output that holds the classes."""
        return self.head.output

    def feeds(self, images: Array, inputs: tuple[TensorSpec, ...]) -> dict[str, Array]:
        """Return what a run on images [N, ...] is given: these, and the values of the other inputs."""
        feeds = {self.input.name: images}
        if self.extra_inputs:
            feeds.update(repeated(self.extra_inputs, inputs, len(images)))
        return feeds

    def probabilities(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the class probabilities, float32 [N, K], of a run's outputs; not finite where those aren't.

        Raises:
            ExecutionError: the output doesn't hold a value for each class of each item.
        """
        values = outputs[self.output]
        if values.ndim == 0 or values.size != len(values) * self.head.classes:
            raise ExecutionError(
                f'the output "{self.output}" has shape {list(values.shape)}; '
                f"expected {self.head.classes} values for each item"
            )
        found = self.head.probabilities(values.reshape(len(values), self.head.classes))
        return found if len(self.labels) == self.head.classes else np.concatenate([1 - found, found], axis=1)


def _image_input(model: Model, extra: Mapping[str, Array]) -> TensorSpec:
    images = [spec for spec in model.inputs if spec.name not in extra]
    if len(images) != 1:
        names = listed(spec.name for spec in images)
        raise NoHeadError(
            f"it takes {len(images)} inputs, {names}; if all but the picture are the same for every picture, "
            "give their values in config.toml, such as [extra_inputs] size = [224, 224]"
            if images
            else "it takes no input"
        )
    if images[0].dtype == np.dtype(object):
        raise NoHeadError(f'its input "{images[0].name}" holds texts')
    return images[0]


def _labels(model: Model, config: ModelConfig, head: Head) -> tuple[str, ...]:
    labels = config.labels or labels_in(model.graph, head.classes) or _unnamed(head.classes)
    one_of_two = head.classes == 1 and len(labels) == 2
    if len(labels) != head.classes and not one_of_two:
        raise ModelLoadError(f"there are {len(labels)} labels for {head.classes} classes; give one for each")
    return labels


def _unnamed(classes: int) -> tuple[str, ...]:
    """Number the classes; the only value of a head is the probability of the positive class."""
    return tuple(map(str, range(classes))) if classes > 1 else ("positive",)


def _preprocessing(model: Model, image: TensorSpec, config: ModelConfig) -> Preprocessing:
    """Complete what config.toml says, or the files beside the model, or the model's own."""
    table, described = config.preprocessing, model.metadata.get("featurelens.preprocessing")
    told = [] if table is None else [Told(table, CONFIG_FILE)]
    alone = table is not None and table.model_fields_set & {"kind", "preset"}
    if not alone and (beside := config.described.get(0)) is not None and beside.source:
        if beside.preprocessing is None:
            raise ModelLoadError(
                f"{beside.source}: {beside.problem}; say in config.toml, under [preprocessing], how pictures "
                'are prepared, with a preset or a kind, or kind = "none"'
            )
        told.append(Told(beside.preprocessing, beside.source))
    if not told and described is not None:
        told.append(Told(Preprocessing.from_json(described), 'the metadata "featurelens.preprocessing"'))
    return preprocessing_for(image, *told)
